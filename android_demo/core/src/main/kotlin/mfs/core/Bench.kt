package mfs.core

import java.io.File
import java.io.IOException

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

/** The same figures, under the same names, as `mfs-bench-device` prints. */
class Bench(
    private val engine: Engine,
    private val manifest: Manifest,
    private val options: BenchOptions,
    private val sample: (seconds: Double) -> Sample,
    private val now: () -> Double = { System.nanoTime() / 1e9 },
) {
    /**
     * @param openMs what opening the engine took.
     * @param reference unpacked reference tensors; null checks nothing.
     * @param dump a folder for the outputs on the reference's crops.
     */
    fun run(tool: String, machine: Machine, openMs: Double, reference: File?, dump: File? = null): Map<String, Any?> {
        require(dump == null || reference != null) { "dump needs the bundle's ${ReferenceFile.NAME}: it is of its crops" }
        val parity = reference?.let { engine.selfCheck(it, dump) }
        val scene = Scene.of(manifest, reference)
        repeat(options.warmup) { once(scene) }
        val frames = List(options.runs) { once(scene) }
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
        out["frame"] = linkedMapOf("name" to scene.name, "width" to scene.width, "height" to scene.height)
        if (frames.isNotEmpty()) out["latency_ms"] = latencies(frames)
        if (options.sustainedSeconds > 0) out["sustained"] = sustained(scene)
        out["parity"] = parity
        return out
    }

    /** As a camera's frame goes; where a detector is and finds no face, its time counts all the same. */
    private fun once(scene: Scene): DoubleArray {
        val frame = scene.frame() // not timed
        val found = if (engine.hasDetector) engine.swap(frame, null, now()) else null
        if (found != null && found.swapped) return found.ms
        val ms = engine.swap(frame, scene.landmarks, now()).ms
        ms[Stage.DETECT.ordinal] = found?.ms?.get(Stage.DETECT.ordinal) ?: 0.0
        ms[Stage.TOTAL.ordinal] += ms[Stage.DETECT.ordinal]
        return ms
    }

    private fun sustained(scene: Scene): Map<String, Any?> {
        val start = now()
        var part = start
        var total = 0L
        var inPart = 0
        val samples = mutableListOf(sample(0.0))
        val fps = mutableListOf<Double>()
        while (now() - start < options.sustainedSeconds) {
            once(scene)
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

/** The report of a measurement as JSON; where there is none, {"error": ..., "status": ...}: nobody shall wait for it in vain. */
fun reportOf(measure: () -> Map<String, Any?>): String = try {
    writeJson(measure())
} catch (e: CoreException) {
    writeJson(mapOf("error" to e.message, "status" to e.status))
} catch (e: Throwable) { // memory that ran out and a library that is not there are no Exceptions
    val isExpected = e is BundleException || e is IllegalArgumentException || e is IOException
    writeJson(mapOf("error" to (e.message?.takeIf { isExpected } ?: e.toString())))
}

/** Writes beside and renames: whoever waits for the file finds it whole. */
fun writeWhole(file: File, text: String) {
    val beside = File(file.path + ".part")
    beside.writeText(text)
    if (!beside.renameTo(file)) {
        beside.delete()
        throw IOException("${file.path} cannot be written")
    }
}
