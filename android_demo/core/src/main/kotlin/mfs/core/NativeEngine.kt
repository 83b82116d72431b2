package mfs.core

import java.io.File
import java.nio.ByteBuffer

/** What mobile_core refused, in its words.  `status` is its mfs_status. */
class CoreException(val status: Int, message: ByteArray) : Exception(message.decodeToString())

/** The functions of app/src/main/cpp/mfs_jni.cpp.  Text goes as UTF-8 bytes: JNI's own strings are of another encoding. */
internal object NativeCore {
    init {
        System.loadLibrary("mfs_jni")
    }

    @JvmStatic external fun version(): ByteArray
    @JvmStatic external fun compiler(): ByteArray
    @JvmStatic external fun open(
        folder: ByteArray, backend: ByteArray, threads: Int, litert: ByteArray?, detector: ByteArray?,
    ): Long
    @JvmStatic external fun close(session: Long)
    @JvmStatic external fun about(session: Long): ByteArray
    @JvmStatic external fun selfCheck(session: Long, reference: ByteArray, dump: ByteArray?): ByteArray

    /** `layout`: width, height, rotation, row stride of Y, of U and V, pixel stride of U and V. */
    @JvmStatic external fun convert(
        y: ByteBuffer, u: ByteBuffer, v: ByteBuffer, layout: IntArray, mirrored: Boolean, rgba: ByteBuffer, width: Int, height: Int,
    )

    /** `result` receives five times in ms, and ten landmarks. */
    @JvmStatic external fun swap(
        session: Long, rgba: ByteBuffer, width: Int, height: Int, landmarks: DoubleArray?, seconds: Double, result: DoubleArray,
    ): Boolean
}

/** A frame of YUV_420_888, as a camera gives it, in direct buffers that stay the camera's. */
class YuvFrame(
    val y: ByteBuffer,
    val u: ByteBuffer,
    val v: ByteBuffer,
    val width: Int,
    val height: Int,
    val rowStrideY: Int,
    val rowStrideUv: Int,
    val pixelStrideUv: Int,
    /** Clockwise degrees that make it upright. */
    val rotation: Int,
) {
    val uprightWidth: Int get() = if (rotation % 180 == 0) width else height
    val uprightHeight: Int get() = if (rotation % 180 == 0) height else width

    /** Into a frame of the upright size.  @throws CoreException a size or stride does not fit the buffers. */
    fun convert(mirrored: Boolean, to: RgbaFrame) {
        val layout = intArrayOf(width, height, rotation, rowStrideY, rowStrideUv, pixelStrideUv)
        NativeCore.convert(y, u, v, layout, mirrored, to.pixels, to.width, to.height)
    }
}

/** mobile_core: ncnn, or LiteRT where its library is given.  Calls take turns. */
class NativeEngine private constructor(private var session: Long, override val label: String) : Engine {
    /** Read at once: it is also asked for once the engine has been closed. */
    override val about: Map<String, Any?> =
        (Json.parse(NativeCore.about(session), "mfs_session_json").members(100) - FIGURES).mapValues { it.value.plain() }

    override fun swap(frame: RgbaFrame, landmarks: DoubleArray?, seconds: Double): Swap {
        require(landmarks == null || landmarks.size == 10) { "${landmarks?.size} numbers, ten are the landmarks of a face" }
        val stages = Stage.entries.size
        val result = DoubleArray(stages + 10)
        val swapped = NativeCore.swap(live(), frame.pixels, frame.width, frame.height, landmarks, seconds, result)
        return Swap(swapped, result.copyOf(stages), result.copyOfRange(stages, stages + 10))
    }

    override fun selfCheck(reference: File, dump: File?): Map<String, Any?> {
        val said = NativeCore.selfCheck(live(), reference.path.encodeToByteArray(), dump?.path?.encodeToByteArray())
        return Json.parse(said, "mfs_session_self_check").members(100).mapValues { it.value.plain() }
    }

    override fun close() {
        NativeCore.close(session)
        session = 0 // closing twice is allowed
    }

    private fun live(): Long {
        check(session != 0L) { "this engine has been closed" }
        return session
    }

    companion object {
        /** Members of mfs_session_json that are of its own frames; the app keeps its own. */
        private val FIGURES = setOf("frames", "fps", "sustained_fps", "latency_ms")

        val version: String get() = NativeCore.version().decodeToString()
        val compiler: String get() = NativeCore.compiler().decodeToString()

        /**
         * @param litert path of libLiteRt.so, for "tflite"; null searches as the system does.
         * @param detector folder with detector.param and detector.bin; null takes the bundle's own, if it has one.
         * @throws BundleException the manifest is not what this version reads.
         * @throws CoreException the bundle is damaged, or this backend is not in it or not here.
         */
        fun open(bundle: File, backend: String, threads: Int, litert: File? = null, detector: File? = null): NativeEngine {
            fun File.bytes() = path.encodeToByteArray()
            val label = Manifest.read(bundle).label
            val session =
                NativeCore.open(bundle.bytes(), backend.encodeToByteArray(), threads, litert?.bytes(), detector?.bytes())
            return NativeEngine(session, label)
        }
    }
}
