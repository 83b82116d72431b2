package mfs.core

import java.io.File

/** A frame to measure on and the face in it: the reference's photo, or grey of 720p with a face of half its height. */
class Scene private constructor(val name: String, private val picture: RgbaFrame, val landmarks: DoubleArray) {
    private val canvas = RgbaFrame(picture.width, picture.height)
    val width get() = picture.width
    val height get() = picture.height

    /** As a camera's next one. */
    fun frame(): RgbaFrame {
        canvas.pixels.duplicate().put(picture.pixels.duplicate())
        return canvas
    }

    companion object {
        private const val SIDE = 1 shl 15 // the longest that mobile_core's JNI functions take

        /** @param reference unpacked reference tensors, or null.  @throws BundleException they are damaged. */
        fun of(manifest: Manifest, reference: File?): Scene {
            val files = listOf("frame_rgb", "landmarks").map { File(reference, "$it.npy") }
            if (reference == null || files.any { !it.isFile }) return grey(manifest)
            val (photo, points) = files
            val rgb = NpyFile.read(photo, NpyFile.Type.UINT8, listOf(null, null, 3))
            val (height, width) = rgb.shape
            if (minOf(height, width) < 1 || maxOf(height, width) > SIDE) {
                throw BundleException("${photo.name} is of $width x $height pixels, at most $SIDE x $SIDE are measured")
            }
            val picture = RgbaFrame(width, height)
            val pixels = picture.pixels.duplicate()
            while (rgb.values.hasRemaining()) pixels.put(rgb.values.get()).put(rgb.values.get()).put(rgb.values.get()).put(-1)
            val landmarks = DoubleArray(10)
            NpyFile.read(points, NpyFile.Type.FLOAT64, listOf(5, 2)).values.asDoubleBuffer().get(landmarks)
            return Scene("reference", picture, landmarks)
        }

        private fun grey(manifest: Manifest): Scene {
            val picture = RgbaFrame(1280, 720)
            picture.pixels.duplicate().put(ByteArray(picture.pixels.capacity()) { 128.toByte() })
            val scale = picture.height / 2 / manifest.templateBase
            val corner = listOf(picture.width / 4.0, picture.height / 4.0)
            return Scene("grey", picture, DoubleArray(10) { corner[it % 2] + manifest.template[it] * scale })
        }
    }
}
