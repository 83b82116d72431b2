package mfs.core

import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class ReferenceFileTest {
    @get:Rule val place = TemporaryFolder()

    private fun archive(vararg names: String): File {
        val file = place.newFile()
        ZipOutputStream(file.outputStream()).use { out ->
            for (name in names) {
                out.putNextEntry(ZipEntry(name))
                out.write(name.toByteArray())
            }
        }
        return file
    }

    @Test fun `an archive writes nothing outside its folder`() {
        val folder = place.newFolder("in")
        ReferenceFile.unpack(archive("swapped.npy", "../out.npy", "/tmp/out.npy", "other.npy"), folder)
        assertEquals(listOf("swapped.npy"), folder.list()!!.toList())
        assertEquals("swapped.npy", File(folder, "swapped.npy").readText())
        assertEquals(false, File(place.root, "out.npy").exists())
    }

    @Test fun `a damaged archive is named`() {
        val file = place.newFile("reference.npz").apply { writeText("PK") }
        val message = assertThrows(BundleException::class.java) { ReferenceFile.unpack(file, place.root) }.message!!
        assertEquals("reference.npz cannot be read", message.substringBefore(":"))
    }
}
