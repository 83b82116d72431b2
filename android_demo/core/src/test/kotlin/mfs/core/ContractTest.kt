package mfs.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test

class ContractTest {
    /** Each folder of `mfs.contracts` holds a bundle's manifest, and in expected.txt what is in the bundle's files themselves. */
    @Test fun `names, shapes and layouts are those of the artifacts, the alignment is the exporter's`() {
        val root = System.getProperty("mfs.contracts")
        assumeTrue("mfs.contracts is not set", root != null)
        val folders = File(root!!).listFiles()!!.filter { it.isDirectory }
        assertTrue(folders.isNotEmpty())
        for (folder in folders) {
            val found = Manifest.read(folder)
            val lines = mutableListOf("contract ${found.contract}")
            for ((backend, artifact) in found.artifacts.toSortedMap()) lines += "$backend ${artifact.layout} ${artifact.tensors}"
            lines += listOf(found.template.joinToString(" "), "${found.templateBase}", found.label)
            assertEquals(folder.name, File(folder, "expected.txt").readLines(), lines)
        }
    }
}
