package mfs.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test

class ContractTest {
    /** Each folder of `mfs.contracts` holds a manifest that the exporter wrote, and in expected.txt what the exporter's own contract says. */
    @Test fun `names and sizes are those of the exporter`() {
        val root = System.getProperty("mfs.contracts")
        assumeTrue("mfs.contracts is not set", root != null)
        val folders = File(root!!).listFiles()!!.filter { it.isDirectory }
        assertTrue(folders.isNotEmpty())
        for (folder in folders) {
            val found = Manifest.read(folder)
            val template = found.template.joinToString(" ")
            val lines = listOf(found.architecture, "${found.size}", found.input, found.outputs.joinToString(" "), template, "${found.templateBase}", found.label)
            assertEquals(folder.name, File(folder, "expected.txt").readLines(), lines)
        }
    }
}
