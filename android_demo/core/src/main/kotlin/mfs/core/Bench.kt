package mfs.core

import java.io.File

/** What a machine says of itself at a moment of a long run. */
class Sample(
    val seconds: Double,
    /** Degrees Celsius. */
    val heat: Map<String, Double>,
    /** Current frequency by core; 0 where it is not told. */
    val khz: List<Long>,
)

/** Members "system", "architecture", "cpu", "cores", "compiler". */
class Machine(val system: String, val architecture: String, val cpu: String, val cores: Int, val compiler: String)

class BenchOptions(val warmup: Int = 10, val runs: Int = 50, val sustainedSeconds: Double = 0.0) {
    init {
        require(warmup in 0..100_000) { "warmup is $warmup, must be from 0 to 100000" }
        require(runs in 0..1_000_000) { "runs is $runs, must be from 0 to 1000000" }
        require(sustainedSeconds in 0.0..86_400.0) { "sustained is $sustainedSeconds, must be from 0 to 86400 seconds" }
    }
}

/** The same figures, under the same names, as `mfs-bench-device` prints; on a grey frame of 720p with a face of half its height. */
class Bench(
    private val engine: Engine,
    private val manifest: Manifest,
    private val options: BenchOptions,
    private val sample: (seconds: Double) -> Sample,
    private val now: () -> Double = { System.nanoTime() / 1e9 },
) {
    private val frame = RgbaFrame(1280, 720)
    private val grey = ByteArray(frame.pixels.capacity()) { 128.toByte() }
    private val landmarks = DoubleArray(10) { i ->
        val scale = frame.height / 2 / manifest.templateBase
        (if (i % 2 == 0) frame.width / 4.0 else frame.height / 4.0) + manifest.template[i] * scale
    }

    /** @param openMs what opening the engine took.  @param reference unpacked reference tensors; null checks nothing. */
    fun run(tool: String, machine: Machine, openMs: Double, reference: File?): Map<String, Any?> {
        val parity = reference?.let { engine.selfCheck(it) }
        repeat(options.warmup) { once() }
        val frames = List(options.runs) { once() }
        val out = linkedMapOf<String, Any?>("schema" to 1, "tool" to tool)
        out["machine"] = linkedMapOf(
            "system" to machine.system,
            "architecture" to machine.architecture,
            "cpu" to machine.cpu,
            "cores" to machine.cores,
            "compiler" to machine.compiler,
        )
        out += engine.about
        out["open_ms"] = openMs
        out["warmup"] = options.warmup
        out["runs"] = options.runs
        out["frame"] = linkedMapOf("name" to "grey", "width" to frame.width, "height" to frame.height)
        if (frames.isNotEmpty()) out["latency_ms"] = latencies(frames)
        if (options.sustainedSeconds > 0) out["sustained"] = sustained()
        out["parity"] = parity
        return out
    }

    /** A camera's next frame is not timed, a detector is, though it finds no face on grey. */
    private fun once(): DoubleArray {
        frame.pixels.duplicate().put(grey)
        val detect = if (engine.hasDetector) engine.swap(frame, null, now()).ms[Stage.DETECT.ordinal] else 0.0
        val ms = engine.swap(frame, landmarks, now()).ms
        ms[Stage.DETECT.ordinal] = detect
        ms[Stage.TOTAL.ordinal] += detect
        return ms
    }

    private fun sustained(): Map<String, Any?> {
        val start = now()
        var part = start
        var total = 0L
        var inPart = 0
        val samples = mutableListOf(sample(0.0))
        val fps = mutableListOf<Double>()
        while (now() - start < options.sustainedSeconds) {
            once()
            total++
            inPart++
            val done = now()
            if (done - part >= 1) {
                fps += inPart / (done - part)
                samples += sample(done - start)
                part = done
                inPart = 0
            }
        }
        val elapsed = now() - start
        return linkedMapOf(
            "seconds" to elapsed,
            "frames" to total,
            "fps" to total / elapsed,
            "fps_by_second" to distribution(fps),
            "samples" to samples.map { linkedMapOf("seconds" to it.seconds, "heat" to it.heat, "khz" to it.khz) },
        )
    }
}

/** Writes beside and renames: whoever waits for the file finds it whole. */
fun writeWhole(file: File, text: String) {
    val beside = File(file.path + ".part")
    beside.writeText(text)
    if (!beside.renameTo(file)) {
        beside.delete()
        throw java.io.IOException("${file.path} cannot be written")
    }
}
