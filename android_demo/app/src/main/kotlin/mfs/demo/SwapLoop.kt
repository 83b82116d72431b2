package mfs.demo

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.graphics.Rect
import android.view.SurfaceHolder
import kotlin.concurrent.thread
import mfs.core.CoreException
import mfs.core.Engine
import mfs.core.EngineHolder
import mfs.core.FrameStats
import mfs.core.LatestFrame
import mfs.core.RgbaFrame
import mfs.core.overlay

/** Takes frames, swaps faces, labels what was swapped, draws; on a thread of its own until [close]. */
class SwapLoop(
    private val frames: LatestFrame<CameraFrame>,
    private val engines: EngineHolder,
    private val surface: SurfaceHolder,
    private val show: (String) -> Unit,
) {
    private val label = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = Color.WHITE }
    private val behind = Paint().apply { color = Color.argb(160, 0, 0, 0) }
    private var canvas: Pair<RgbaFrame, Bitmap>? = null
    private var running: Engine? = null
    private var stats = FrameStats()
    private var shownAt = 0L
    private var shownNote: String? = null
    private val worker = thread(name = "swap") { run() }

    /** Returns once nothing is drawn any more. */
    fun close() {
        frames.close()
        worker.join()
    }

    private fun run() {
        while (true) {
            val frame = frames.take() ?: return
            val note = frame.use { swap(it) }
            val now = System.nanoTime()
            if (now - shownAt > SHOW_EVERY || note != shownNote) {
                shownAt = now
                shownNote = note
                show(overlay(stats, frames.dropped, running?.about, note))
            }
        }
    }

    /** What to tell the user, or null. */
    private fun swap(frame: CameraFrame): String? {
        val yuv = frame.yuv()
        val (rgba, bitmap) = canvas(yuv.uprightWidth, yuv.uprightHeight)
        var note: String? = null
        var disclosed: String? = null
        try {
            yuv.convert(frame.isMirrored, rgba)
            engines.withEngine { engine ->
                begin(engine)
                if (!engine.hasDetector) {
                    note = NO_DETECTOR
                    return@withEngine
                }
                disclosed = engine.label // also of a frame that fails halfway: it may hold part of a swapped face
                val result = engine.swap(rgba, null, frame.seconds)
                if (result.swapped) {
                    stats.add(result.ms, System.nanoTime() / 1e9)
                } else {
                    disclosed = null
                    note = "no face"
                }
            }
        } catch (e: CoreException) {
            note = e.message
        }
        bitmap.copyPixelsFromBuffer(rgba.pixels.duplicate())
        disclosed?.let { disclose(bitmap, it) }
        draw(bitmap)
        return note
    }

    /** Figures are of one engine. */
    private fun begin(engine: Engine) {
        if (engine === running) return
        running = engine
        stats = FrameStats()
    }

    /** Into the frame itself, so that it is in every screenshot and recording. */
    private fun disclose(bitmap: Bitmap, text: String) {
        label.textSize = bitmap.height / 24f
        val margin = label.textSize / 2
        label.textSize *= minOf(1f, (bitmap.width - 2 * margin) / label.measureText(text)) // whole, however long
        val bottom = bitmap.height - margin
        Canvas(bitmap).apply {
            drawRect(0f, bottom - 1.5f * label.textSize, 2 * margin + label.measureText(text), bitmap.height.toFloat(), behind)
            drawText(text, margin, bottom - label.textSize / 4, label)
        }
    }

    private fun draw(bitmap: Bitmap) {
        val canvas = surface.lockHardwareCanvas() ?: return // the surface has gone
        try {
            val scale = minOf(canvas.width.toFloat() / bitmap.width, canvas.height.toFloat() / bitmap.height)
            val width = (bitmap.width * scale).toInt()
            val height = (bitmap.height * scale).toInt()
            val left = (canvas.width - width) / 2
            val top = (canvas.height - height) / 2
            canvas.drawColor(Color.BLACK)
            canvas.drawBitmap(bitmap, null, Rect(left, top, left + width, top + height), null)
        } finally {
            surface.unlockCanvasAndPost(canvas)
        }
    }

    private fun canvas(width: Int, height: Int): Pair<RgbaFrame, Bitmap> {
        val known = canvas
        if (known != null && known.first.width == width && known.first.height == height) return known
        return Pair(RgbaFrame(width, height), Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)).also { canvas = it }
    }

    private companion object {
        const val SHOW_EVERY = 300_000_000L // ns
        const val NO_DETECTOR = "no face detector: see \"Landmarks\" in android_demo/README.md"
    }
}
