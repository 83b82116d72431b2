package mfs.core

import java.io.File
import java.nio.ByteBuffer

/** RGBA pixels, upright, without gaps between rows, in a direct buffer: what a screen shows. */
class RgbaFrame(val width: Int, val height: Int) {
    val pixels: ByteBuffer = ByteBuffer.allocateDirect(Math.multiplyExact(Math.multiplyExact(width, height), 4))
}

/** What became of a frame. */
class Swap(
    /** False: there was no face, and the frame is as it was. */
    val swapped: Boolean,
    /** In the order of [Stage]. */
    val ms: DoubleArray,
    /** x and y of five points, after smoothing. */
    val landmarks: DoubleArray,
)

/** An opened bundle in one runtime.  One thread at a time. */
interface Engine : AutoCloseable {
    /** What it is: the members of a report from "bundle" to "detector". */
    val about: Map<String, Any?>

    /** What must stand on every frame that it has swapped. */
    val label: String

    /** False: frames are swapped only where landmarks come with them. */
    val hasDetector: Boolean get() = about["detector"] != null

    /** In place.  `landmarks`, in pixels of the frame: null asks the detector.  `seconds`: the frame's, on a steady clock. */
    fun swap(frame: RgbaFrame, landmarks: DoubleArray?, seconds: Double): Swap

    /**
     * Outputs against reference tensors, unpacked into a folder; member "parity" of a report.
     *
     * @param dump a folder that receives the outputs on the reference's crops, an .npy file each, called as the output is.
     */
    fun selfCheck(reference: File, dump: File? = null): Map<String, Any?>
}

/** The engine in use.  Another takes its place between two frames, and only once it has been opened. */
class EngineHolder : AutoCloseable {
    private val running = Any() // guards all below; held for the length of a frame
    private val replacing = Any() // one at a time
    private var engine: Engine? = null
    private var isClosed = false

    /**
     * Opens another engine while frames go on, and puts it in place of the one in use, which is closed.
     *
     * @throws Exception what `open` threw; the engine in use then stays.
     */
    fun replace(open: () -> Engine): Engine = synchronized(replacing) {
        val fresh = open()
        val old = synchronized(running) {
            if (isClosed) fresh else engine.also { engine = fresh }
        }
        old?.close() // after the exchange: no frame waits for it
        check(old !== fresh) { "the app has been left" }
        fresh
    }

    /** Null where there is no engine. */
    fun <T> withEngine(frame: (Engine) -> T): T? = synchronized(running) { engine?.let(frame) }

    override fun close() = synchronized(running) {
        isClosed = true
        engine?.close()
        engine = null
    }
}
