package mfs.core

import java.util.ArrayDeque
import java.util.Locale

enum class Stage { DETECT, ALIGN, NETWORK, PASTE, TOTAL;
    /** As reports call it. */
    val key: String get() = name.lowercase(Locale.ROOT)
}

/** Where `share` of the sorted values lie below, by linear interpolation between neighbours; NaN of none. */
fun percentile(values: List<Double>, share: Double): Double {
    if (values.isEmpty()) return Double.NaN
    val sorted = values.sorted()
    val at = share * (sorted.size - 1)
    val below = at.toInt()
    return sorted[below] + (sorted[minOf(below + 1, sorted.size - 1)] - sorted[below]) * (at - below)
}

fun distribution(values: List<Double>): Map<String, Any?> = linkedMapOf(
    "p50" to percentile(values, 0.5),
    "p90" to percentile(values, 0.9),
    "p99" to percentile(values, 0.99),
    "min" to percentile(values, 0.0),
    "max" to percentile(values, 1.0),
    "mean" to if (values.isEmpty()) Double.NaN else values.average(),
)

/** Of frames in ms, in the order of [Stage]: member "latency_ms" of a report. */
fun latencies(frames: List<DoubleArray>): Map<String, Any?> =
    Stage.entries.associateTo(LinkedHashMap()) { stage -> stage.key to distribution(frames.map { it[stage.ordinal] }) }

/** Figures of the frames that went by; windows as mobile_core has them.  One thread at a time. */
class FrameStats {
    private val times = ArrayDeque<DoubleArray>()
    private val done = ArrayDeque<Double>()
    var frames = 0L
        private set

    /** `ms` in the order of [Stage]; `seconds`: when the frame was done, on a steady clock. */
    fun add(ms: DoubleArray, seconds: Double) {
        require(ms.size == Stage.entries.size) { "${ms.size} times, ${Stage.entries.size} stages" }
        frames++
        times.addLast(ms.copyOf())
        if (times.size > WINDOW) times.removeFirst()
        done.addLast(seconds)
        while (done.size > 2 && done.first < seconds - SUSTAINED) done.removeFirst()
    }

    /** Frames a second over the last `over` seconds; NaN before the second frame. */
    fun fps(over: Double = RECENT): Double {
        val end = done.peekLast() ?: return Double.NaN
        val recent = done.filter { it >= end - over }
        val seconds = end - recent.first()
        return if (seconds > 0) (recent.size - 1) / seconds else Double.NaN
    }

    fun percentile(stage: Stage, share: Double): Double = percentile(times.map { it[stage.ordinal] }, share)

    companion object {
        const val WINDOW = 600 // frames that percentiles are of
        const val RECENT = 2.0 // seconds that fps() is of
        const val SUSTAINED = 60.0 // seconds that the sustained figure is of
    }
}
