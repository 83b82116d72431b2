package mfs.core

import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

private class FakeFrame : AutoCloseable {
    var closed = 0
    override fun close() { closed++ }
}

class LatestFrameTest {
    @Test fun `a slow network sees the newest frame, and the camera gets every buffer back once`() {
        val slot = LatestFrame<FakeFrame>()
        val frames = List(5) { FakeFrame() }
        frames.take(3).forEach(slot::put)
        assertSame(frames[2], slot.take())
        slot.put(frames[3])
        slot.close()
        slot.put(frames[4])
        assertNull(slot.take())
        assertEquals(listOf(1, 1, 0, 1, 1), frames.map { it.closed })
        assertEquals(2, slot.dropped)
    }

    @Test(timeout = 10_000) fun `leaving the app ends a worker that waits for a frame`() {
        val slot = LatestFrame<FakeFrame>()
        val worker = thread { slot.take() }
        slot.close()
        worker.join()
    }

    @Test(timeout = 10_000) fun `no frame is lost or handed out twice between two threads`() {
        val slot = LatestFrame<FakeFrame>()
        val frames = List(20_000) { FakeFrame() }
        var taken = 0L
        val worker = thread { while (true) { (slot.take() ?: break).close(); taken++ } }
        frames.forEach(slot::put)
        slot.close()
        worker.join()
        assertTrue(frames.all { it.closed == 1 })
        assertTrue(taken + slot.dropped in frames.size - 1L..frames.size.toLong()) // one may wait when it is closed
    }
}

class FrameStatsTest {
    private fun frame(total: Double) = doubleArrayOf(1.0, 2.0, 3.0, 4.0, total)

    @Test fun `percentiles are those that the host prints`() {
        val values = listOf(40.0, 10.0, 30.0, 20.0)
        assertEquals(25.0, percentile(values, 0.5), 1e-12)
        assertEquals(37.0, percentile(values, 0.9), 1e-12)
        assertTrue(percentile(emptyList(), 0.5).isNaN())
        assertEquals(listOf("p50", "p90", "p99", "min", "max", "mean"), distribution(values).keys.toList())
    }

    @Test fun `FPS is of the last two seconds, the sustained figure of a minute`() {
        val stats = FrameStats()
        assertTrue(stats.fps().isNaN())
        for (i in 0..300) stats.add(frame(100.0), i * 0.1)
        for (i in 1..50) stats.add(frame(50.0), 30 + i * 0.05)
        assertEquals(20.0, stats.fps(), 1e-6)
        assertEquals(350 / 32.5, stats.fps(FrameStats.SUSTAINED), 1e-6)
        assertEquals(351, stats.frames)
        assertEquals(3.0, stats.percentile(Stage.NETWORK, 0.9), 0.0)
    }

    @Test fun `an hour on the camera takes no more memory than ten minutes`() {
        val stats = FrameStats()
        for (i in 0 until 100_000) stats.add(frame(if (i < 99_400) 1.0 else 2.0), i / 30.0)
        assertEquals("older frames still count", 2.0, stats.percentile(Stage.TOTAL, 0.0), 0.0)
        assertEquals(30.0, stats.fps(FrameStats.SUSTAINED), 1e-6)
    }
}

private class FakeEngine(
    override val about: Map<String, Any?> = mapOf("detector" to null),
    private val findsFace: Boolean = false,
) : Engine {
    var isClosed = false
    var swaps = 0
    var dumped: File? = null
    override val label get() = "AI-generated"
    override fun swap(frame: RgbaFrame, landmarks: DoubleArray?, seconds: Double): Swap {
        check(!isClosed) { "used after it was closed" }
        if (landmarks == null && !findsFace) return Swap(false, doubleArrayOf(7.0, 0.0, 0.0, 0.0, 7.0), DoubleArray(10))
        swaps++
        return Swap(true, DoubleArray(5) { 1.0 }, DoubleArray(10))
    }
    override fun selfCheck(reference: File, dump: File?): Map<String, Any?> {
        dumped = dump
        return mapOf("complaints" to emptyList<String>())
    }
    override fun close() { isClosed = true }
}

class EngineHolderTest {
    @Test fun `a bundle that does not open leaves the picture as it was`() {
        val holder = EngineHolder()
        val old = FakeEngine()
        holder.replace { old }
        val error = assertThrows(BundleException::class.java) { holder.replace { throw BundleException("damaged") } }
        assertEquals("damaged", error.message)
        assertSame(old, holder.withEngine { it })
        assertFalse(old.isClosed)
    }

    @Test fun `the old engine is closed once the new one runs`() {
        val holder = EngineHolder()
        val old = FakeEngine()
        val fresh = FakeEngine()
        holder.replace { old }
        holder.replace { assertFalse(old.isClosed); fresh }
        assertTrue(old.isClosed)
        assertSame(fresh, holder.withEngine { it })
        holder.close()
        assertTrue(fresh.isClosed)
        assertNull(holder.withEngine { it })
    }

    @Test(timeout = 10_000) fun `frames go on while another bundle opens`() {
        val holder = EngineHolder()
        val old = FakeEngine()
        holder.replace { old }
        val opening = CountDownLatch(1)
        val mayOpen = CountDownLatch(1)
        val loader = thread { holder.replace { opening.countDown(); mayOpen.await(); FakeEngine() } }
        opening.await()
        assertSame(old, holder.withEngine { it })
        mayOpen.countDown()
        loader.join()
        assertTrue(old.isClosed)
    }

    @Test fun `an engine that opens after the app was left is closed`() {
        val holder = EngineHolder()
        val late = FakeEngine()
        holder.close()
        assertThrows(IllegalStateException::class.java) { holder.replace { late } }
        assertTrue(late.isClosed)
    }

    @Test(timeout = 20_000) fun `no frame ever runs in a closed engine`() {
        val holder = EngineHolder()
        holder.replace { FakeEngine() }
        val stop = CountDownLatch(1)
        var failure: Throwable? = null
        val frame = RgbaFrame(2, 2)
        val worker = thread {
            try {
                while (stop.count > 0) holder.withEngine { it.swap(frame, DoubleArray(10), 0.0) }
            } catch (e: Throwable) {
                failure = e
            }
        }
        repeat(2000) { holder.replace { FakeEngine() } }
        stop.countDown()
        worker.join(TimeUnit.SECONDS.toMillis(5))
        assertNull(failure)
    }
}

class BenchTest {
    private val machine = Machine("Android 16", "aarch64", "chip", 8, "clang")

    @Test fun `a report has the members that the host reads`() {
        var clock = 0.0
        val options = BenchOptions(warmup = 2, runs = 3, sustainedSeconds = 5.0)
        val sample = { seconds: Double -> Sample(seconds, mapOf("battery" to 31.5), listOf(0L)) }
        val manifest = Manifest.parse(MANIFEST.toByteArray())
        val bench = Bench(FakeEngine(), manifest, options, sample) { clock.also { clock += 0.1 } }
        val report = Json.parse(writeJson(bench.run("mfs-core 0", machine, 12.0, null)).toByteArray(), "report")
        assertEquals("mfs-core 0", report["tool"].text())
        assertEquals(setOf("p50", "p90", "p99", "min", "max", "mean"), report["latency_ms"]["network"].members(10).keys)
        assertEquals(1.0, report["latency_ms"]["total"]["p50"].number(0.0, 10.0), 0.0)
        assertTrue(report["parity"].isNull)
        val samples = report["sustained"]["samples"].items(100)
        assertTrue("samples are taken about once a second", samples.size in 4..7)
        assertEquals(31.5, samples[0]["heat"]["battery"].number(0.0, 99.0), 0.0)
    }

    private fun bench(engine: Engine, runs: Int) =
        Bench(engine, Manifest.parse(MANIFEST.toByteArray()), BenchOptions(0, runs), { Sample(it, emptyMap(), emptyList()) })

    private fun latency(engine: Engine): Json =
        Json.parse(writeJson(bench(engine, 3).run("", machine, 0.0, null)).toByteArray(), "report")["latency_ms"]

    @Test fun `a detector's time counts whether it finds the face or not, and no frame is swapped twice`() {
        val engines = listOf(false, true).map { FakeEngine(mapOf("detector" to "scrfd"), findsFace = it) }
        val (blind, seeing) = engines.map(::latency)
        assertEquals(8.0, blind["total"]["p50"].number(0.0, 99.0), 0.0)
        assertEquals(7.0, blind["detect"]["p50"].number(0.0, 99.0), 0.0)
        assertEquals(1.0, seeing["total"]["p50"].number(0.0, 99.0), 0.0)
        assertEquals(listOf(3, 3), engines.map { it.swaps })
    }

    @Test fun `outputs are asked for where they were wanted, and only with a reference`() {
        val engine = FakeEngine()
        val bench = bench(engine, 0)
        bench.run("", machine, 0.0, File("none"), File("dump"))
        assertEquals(File("dump"), engine.dumped)
        val error = assertThrows(IllegalArgumentException::class.java) { bench.run("", machine, 0.0, null, File("dump")) }
        assertEquals("dump needs the bundle's reference.npz: it is of its crops", error.message)
    }

    @Test fun `whatever goes wrong, whoever waits for a report gets one`() {
        val failures = mapOf(
            BundleException("damaged") to """{"error":"damaged"}""",
            CoreException(6, "no ncnn".toByteArray()) to """{"error":"no ncnn","status":6}""",
            IllegalArgumentException("runs is -1") to """{"error":"runs is -1"}""",
            IllegalStateException("closed") to """{"error":"java.lang.IllegalStateException: closed"}""",
            NullPointerException() to """{"error":"java.lang.NullPointerException"}""",
            OutOfMemoryError("heap") to """{"error":"java.lang.OutOfMemoryError: heap"}""",
            UnsatisfiedLinkError("libmfs_jni.so") to """{"error":"java.lang.UnsatisfiedLinkError: libmfs_jni.so"}""",
            StackOverflowError() to """{"error":"java.lang.StackOverflowError"}""",
        )
        for ((thrown, text) in failures) assertEquals(text, reportOf { throw thrown })
        assertTrue("has no JSON form" in reportOf { mapOf("a" to machine) })
        assertEquals("""{"schema":1}""", reportOf { mapOf("schema" to 1) })
    }

    @Test fun `a wrong number of am start is named, not run`() {
        val error = assertThrows(IllegalArgumentException::class.java) { BenchOptions(runs = -1) }
        assertEquals("runs is -1, must be from 0 to 1000000", error.message)
        assertThrows(IllegalArgumentException::class.java) { BenchOptions(sustainedSeconds = Double.NaN) }
    }
}

class ScreenTest {
    @Test fun `the picture is upright however the phone is held`() {
        assertEquals(listOf(270, 0, 90, 180), listOf(0, 90, 180, 270).map { uprightRotation(270, it, facesFront = true) })
        assertEquals(listOf(90, 0, 270, 180), listOf(0, 90, 180, 270).map { uprightRotation(90, it, facesFront = false) })
    }

    @Test fun `figures that are not there yet are a dash, not a number`() {
        val about = mapOf("bundle" to "demo", "backend" to "ncnn", "precision" to "fp16", "recipe" to "fp16")
        val lines = listOf(
            "demo: ncnn, fp16 (fp16)",
            "- FPS, - in a minute, 0 dropped",
            "frame p50 - ms, p90 - ms",
            "detect -, align -, network -, paste - ms",
            "no face",
        )
        assertEquals(lines.joinToString("\n"), overlay(FrameStats(), 0, about, "no face"))
    }
}

class SystemFilesTest {
    @get:Rule val place = TemporaryFolder()

    private fun write(path: String, text: String) = File(place.root, path).run { parentFile.mkdirs(); writeText(text) }

    @Test fun `a phone's odd units and files that apps may not read do not spoil a report`() {
        write("class/thermal/thermal_zone10/temp", "41500\n")
        write("class/thermal/thermal_zone10/type", "cpu\n")
        write("class/thermal/thermal_zone2/temp", "395")
        write("class/thermal/thermal_zone3/temp", "soon")
        write("class/thermal/cooling_device0/temp", "1")
        write("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1800000\n")
        write("devices/system/cpu/cpu1/online", "1")
        val sample = SystemFiles(place.root).sample(2.0, mapOf("battery" to 30.0))
        assertEquals(mapOf("battery" to 30.0, "2 " to 39.5, "10 cpu" to 41.5), sample.heat)
        assertEquals(listOf(1800000L, 0L), sample.khz)
        assertEquals(emptyMap<String, Double>(), SystemFiles(File(place.root, "none")).sample(0.0).heat)
    }
}
