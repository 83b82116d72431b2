package mfs.core

import java.io.File
import java.io.IOException
import java.util.zip.ZipFile

/** `reference.npz` of a bundle: a zip archive of .npy files, which mobile_core reads from a folder. */
object ReferenceFile {
    const val NAME = "reference.npz"
    private const val MOST_BYTES = 200_000_000L
    private val ARRAYS = listOf(
        "case", "target_rgb", "swapped", "mask", "frame_rgb", "landmarks", "back_matrix", "composite_rgb", "truth_rgb",
    )

    /** Known names only: a name in the archive may be any path.  @throws BundleException damaged, or beyond all size. */
    fun unpack(file: File, folder: File) {
        try {
            folder.mkdirs()
            ZipFile(file).use { archive ->
                var left = MOST_BYTES
                for (name in ARRAYS) {
                    val entry = archive.getEntry("$name.npy") ?: continue
                    left -= archive.getInputStream(entry).use { from ->
                        File(folder, "$name.npy").outputStream().use { copy(from, it, left) }
                    }
                }
            }
        } catch (e: IOException) {
            throw BundleException("${file.name} cannot be read: ${e.message}")
        }
    }

    private fun copy(from: java.io.InputStream, to: java.io.OutputStream, most: Long): Long {
        val buffer = ByteArray(1 shl 16)
        var total = 0L
        while (true) {
            val count = from.read(buffer)
            if (count < 0) return total
            total += count
            // Whatever its header says.
            if (total > most) throw BundleException("$NAME has more than $MOST_BYTES bytes when unpacked")
            to.write(buffer, 0, count)
        }
    }
}
