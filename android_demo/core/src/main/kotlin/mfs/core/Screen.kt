package mfs.core

import java.util.Locale

/** Clockwise degrees that make a camera's buffer upright, of the sensor's mounting and how the screen is turned. */
fun uprightRotation(sensor: Int, display: Int, facesFront: Boolean): Int =
    (if (facesFront) sensor + display else sensor - display + 360) % 360

/** The lines above the picture. */
fun overlay(stats: FrameStats, dropped: Long, about: Map<String, Any?>?, note: String?): String {
    fun ms(stage: Stage, share: Double = 0.5) = shown(stats.percentile(stage, share))
    val lines = mutableListOf<String>()
    if (about != null) {
        lines += "${about["bundle"]}: ${about["backend"]}, ${about["precision"]} (${about["recipe"]})"
        lines += "${shown(stats.fps())} FPS, ${shown(stats.fps(FrameStats.SUSTAINED))} in a minute, $dropped dropped"
        lines += "frame p50 ${ms(Stage.TOTAL)} ms, p90 ${ms(Stage.TOTAL, 0.9)} ms"
        lines += "detect ${ms(Stage.DETECT)}, align ${ms(Stage.ALIGN)}, network ${ms(Stage.NETWORK)}, paste ${ms(Stage.PASTE)} ms"
    }
    if (note != null) lines += note
    return lines.joinToString("\n")
}

private fun shown(value: Double): String = if (value.isFinite()) String.format(Locale.ROOT, "%.1f", value) else "-"
