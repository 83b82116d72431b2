package mfs.demo

import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.util.Size
import mfs.core.LatestFrame
import mfs.core.YuvFrame
import mfs.core.uprightRotation

/** A camera's image, and what makes it upright. */
class CameraFrame(private val image: Image, private val rotation: Int, val isMirrored: Boolean) : AutoCloseable {
    /** On the steady clock of the camera, in seconds. */
    val seconds: Double get() = image.timestamp / 1e9

    fun yuv(): YuvFrame {
        val (y, u, v) = image.planes
        return YuvFrame(y.buffer, u.buffer, v.buffer, image.width, image.height, y.rowStride, u.rowStride, u.pixelStride, rotation)
    }

    override fun close() = image.close()
}

/** The front camera, or the first there is.  Frames go into `frames`, complaints to `failed`, both on a thread of its own. */
class Camera(
    context: Context,
    private val displayRotation: () -> Int,
    private val frames: LatestFrame<CameraFrame>,
    private val failed: (String) -> Unit,
) {
    private val manager = context.getSystemService(CameraManager::class.java)
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null
    private var isOpening = false
    private var isClosed = false

    /** Needs the permission CAMERA. */
    fun open() {
        handler.post { guarded { if (!isClosed) start() } }
    }

    /** Frames that still come are put into `frames`, which closes them once it has been closed itself. */
    fun close() {
        handler.post {
            isClosed = true
            device?.close()
            reader?.close()
            if (!isOpening) thread.quitSafely() // else nobody would hear that it is open, and close it
        }
    }

    /** Whether it opened or not.  False: nobody wants it any more, and what has been opened is to be closed at once. */
    private fun endOpening(): Boolean {
        isOpening = false
        if (isClosed) thread.quitSafely()
        return !isClosed
    }

    @Suppress("MissingPermission") // open() is called once it is granted; a SecurityException is reported all the same
    private fun start() {
        val ids = manager.cameraIdList
        val id = ids.firstOrNull { facing(it) == CameraCharacteristics.LENS_FACING_FRONT } ?: ids.firstOrNull()
        if (id == null) {
            failed("this device has no camera")
            return
        }
        isOpening = true
        manager.openCamera(id, object : CameraDevice.StateCallback() {
            override fun onOpened(camera: CameraDevice) {
                if (!endOpening()) return camera.close()
                device = camera
                guarded { record(camera) }
            }

            override fun onDisconnected(camera: CameraDevice) {
                camera.close()
                if (endOpening()) failed("another app has taken the camera; come back to this one to go on")
            }

            override fun onError(camera: CameraDevice, error: Int) {
                camera.close()
                if (endOpening()) failed("the camera failed (error $error of CameraDevice.StateCallback)")
            }
        }, handler)
    }

    // createCaptureSession with a list of surfaces is deprecated; what replaces it takes an Executor, and gives nothing more here.
    @Suppress("DEPRECATION")
    private fun record(camera: CameraDevice) {
        val known = manager.getCameraCharacteristics(camera.id)
        val isFront = facing(camera.id) == CameraCharacteristics.LENS_FACING_FRONT
        val sensor = known.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0
        val streams = known.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)
        val size = choose(streams?.getOutputSizes(ImageFormat.YUV_420_888).orEmpty().toList())
        if (size == null) {
            failed("the camera gives no YUV_420_888 frames")
            return
        }
        val source = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, IMAGES)
        reader = source
        source.setOnImageAvailableListener({ from ->
            val image = from.acquireLatestImage()
            if (image != null) frames.put(CameraFrame(image, uprightRotation(sensor, displayRotation(), isFront), isFront))
        }, handler)
        camera.createCaptureSession(listOf(source.surface), object : CameraCaptureSession.StateCallback() {
            override fun onConfigured(session: CameraCaptureSession) = guarded {
                val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).apply { addTarget(source.surface) }
                session.setRepeatingRequest(request.build(), null, handler)
            }

            override fun onConfigureFailed(session: CameraCaptureSession) = failed("the camera refused frames of $size")
        }, handler)
    }

    private fun facing(id: String): Int? = manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING)

    /** A failure before the camera is open ends the opening, too. */
    private fun guarded(body: () -> Unit) {
        try {
            body()
            return
        } catch (e: CameraAccessException) {
            failed("the camera cannot be used: ${e.message}")
        } catch (e: SecurityException) {
            failed("the camera may not be used: ${e.message}")
        } catch (e: RuntimeException) { // such as IllegalArgumentException of a camera that has been unplugged
            if (!isClosed) failed("the camera failed: ${e.message ?: e}")
        }
        endOpening()
    }

    private companion object {
        const val IMAGES = 4 // one waits, one is swapped, acquireLatestImage holds two for a moment

        /** 720p, else the largest below, else the smallest. */
        fun choose(sizes: List<Size>): Size? {
            val fitting = sizes.filter { it.width <= 1280 && it.height <= 720 }
            return fitting.maxByOrNull { it.width * it.height } ?: sizes.minByOrNull { it.width * it.height }
        }
    }
}
