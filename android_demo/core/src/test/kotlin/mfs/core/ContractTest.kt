package mfs.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test

class ContractTest {
    /** Each folder of `mfs.contracts` holds a manifest that the exporter wrote, and in expected.txt what its own contract says. */
    @Test fun `names and sizes are those of the exporter`() {
        val root = System.getProperty("mfs.contracts")
        assumeTrue("mfs.contracts is not set", root != null)
        val folders = File(root!!).listFiles()!!.filter { it.isDirectory }
        assertTrue(folders.isNotEmpty())
        for (folder in folders) {
            val found = Manifest.read(folder)
            val names = listOf(found.architecture, "${found.size}", found.input, found.outputs.joinToString(" "))
            val lines = names + listOf(found.template.joinToString(" "), "${found.templateBase}", found.label)
            assertEquals(folder.name, File(folder, "expected.txt").readLines(), lines)
        }
    }
}
