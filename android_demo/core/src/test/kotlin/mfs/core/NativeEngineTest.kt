package mfs.core

import java.io.File
import java.nio.ByteBuffer
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Kotlin, JNI, C++ and ncnn together, where `mfs.bundle` names a bundle with an ncnn artifact, and libmfs_jni.so is there. */
class NativeEngineTest {
    @get:Rule val place = TemporaryFolder()
    private val bundle = File(System.getProperty("mfs.bundle") ?: "")
    private val manifest by lazy { Manifest.read(bundle) }

    @Before fun hasBundle() = assumeTrue("mfs.bundle is not set", System.getProperty("mfs.bundle") != null)

    private fun open(folder: File = bundle, backend: String = "ncnn") = NativeEngine.open(folder, backend, 1)

    private fun refused(status: Int, body: () -> Unit): String {
        val error = assertThrows(CoreException::class.java) { body() }
        assertEquals(error.message, status, error.status)
        return error.message!!
    }

    private fun landmarks(frame: RgbaFrame) =
        DoubleArray(10) { (if (it % 2 == 0) 0.25 * frame.width else 0.25 * frame.height) + manifest.template[it] }

    @Test fun `what the phone computes is what PyTorch computed`() = agrees("ncnn", null)

    @Test fun `what LiteRT computes is what PyTorch computed`() {
        val litert = System.getProperty("mfs.litert")
        assumeTrue("mfs.litert is not set, or the bundle is not for it", litert != null && "tflite" in manifest.backends)
        agrees("tflite", File(litert!!))
    }

    private fun agrees(backend: String, litert: File?) = NativeEngine.open(bundle, backend, 1, litert).use { engine ->
        val folder = place.newFolder()
        ReferenceFile.unpack(File(bundle, ReferenceFile.NAME), folder)
        val dump = File(place.root, "dump")
        val parity = engine.selfCheck(folder, dump)
        assertEquals(emptyList<Any>(), parity["complaints"])
        val cases = (parity["cases"] as List<*>).size
        val outputs = manifest.contract.drop(1)
        assertEquals(outputs.map { "${it.name}.npy" }.toSet(), dump.list()!!.toSet())
        for ((name, shape) in outputs) {
            val (got, wanted) = listOf(dump, folder).map {
                NpyFile.read(File(it, "$name.npy"), NpyFile.Type.FLOAT32, listOf(cases) + shape.drop(1)).values.asFloatBuffer()
            }
            val off = (0 until wanted.capacity()).sumOf { abs(got[it] - wanted[it]).toDouble() } / wanted.capacity()
            assertTrue("$name is off by $off", off < 0.01)
        }
    }

    @Test fun `a reference that does not agree is a complaint, not a pass`() = open().use { engine ->
        val folder = place.newFolder()
        ReferenceFile.unpack(File(bundle, ReferenceFile.NAME), folder)
        val file = File(folder, "swapped.npy")
        val bytes = file.readBytes()
        val header = 10 + (bytes[8].toInt() and 0xff) + 256 * (bytes[9].toInt() and 0xff)
        val values = ByteBuffer.wrap(bytes).order(java.nio.ByteOrder.LITTLE_ENDIAN)
        for (at in header until bytes.size step 4) values.putFloat(at, 1 - values.getFloat(at))
        file.writeBytes(bytes)
        assertTrue((engine.selfCheck(folder)["complaints"] as List<*>).isNotEmpty())
    }

    @Test fun `the face is replaced and the rest of the frame is left alone`() = open().use { engine ->
        val frame = RgbaFrame(640, 480)
        val grey = ByteArray(frame.pixels.capacity()) { if (it % 4 == 3) -1 else 100 }
        frame.pixels.duplicate().put(grey)
        val result = engine.swap(frame, landmarks(frame), 0.0)
        val after = ByteArray(grey.size).also { frame.pixels.duplicate().get(it) }
        assertTrue(result.swapped)
        assertTrue(result.ms.all { it.isFinite() && it >= 0 })
        val changed = grey.indices.filter { grey[it] != after[it] }.map { it / 4 }
        assertTrue(changed.isNotEmpty())
        assertTrue(changed.all { it % 640 in 100..400 && it / 640 in 60..360 })
        assertTrue("opacity has changed", (3 until after.size step 4).all { after[it] == (-1).toByte() })
    }

    @Test fun `a bundle without a detector says so instead of showing nothing`() = open().use { engine ->
        assertFalse(engine.hasDetector)
        val message = refused(1) { engine.swap(RgbaFrame(64, 64), null, 0.0) }
        assertTrue(message, "detector" in message)
    }

    @Test fun `a damaged bundle is refused, and the engine in use goes on`() {
        val damaged = place.newFolder("damaged")
        bundle.copyRecursively(damaged, overwrite = true)
        File(damaged, "swap.bin").appendBytes(byteArrayOf(0))
        EngineHolder().use { holder ->
            val good = holder.replace { open() }
            val message = refused(2) { holder.replace { open(damaged) } }
            assertTrue(message, "swap.bin" in message)
            assertThrows(BundleException::class.java) { holder.replace { open(File(place.root, "not there")) } }
            val named = File(place.root, "Zoë 😀").also { damaged.renameTo(it) }
            refused(2) { holder.replace { open(named) } }
            File(named, "swap.bin").writeBytes(File(bundle, "swap.bin").readBytes())
            open(named).use { assertEquals("Zoë 😀", it.about["bundle"]) }
            assertSame(good, holder.withEngine { it })
            val frame = RgbaFrame(320, 320)
            assertTrue(holder.withEngine { it.swap(frame, landmarks(frame), 0.0) }!!.swapped)
        }
    }

    @Test fun `an unknown backend and a wrong number of threads are named`() {
        refused(3) { open(backend = "metal") }
        refused(1) { NativeEngine.open(bundle, "ncnn", 0) }
    }

    @Test fun `a camera's strides cannot lead outside its buffers`() {
        val to = RgbaFrame(64, 48)
        fun convert(
            ySize: Int = 64 * 48, uvSize: Int = 63 + 23 * 64, row: Int = 64, step: Int = 2, width: Int = 64, rotation: Int = 0,
        ) {
            val (y, u, v) = listOf(ySize, uvSize, uvSize).map { ByteBuffer.allocateDirect(it) }
            YuvFrame(y, u, v, width, 48, 64, row, step, rotation).convert(false, to)
        }
        convert() // a last row that ends with its last pixel is a camera's usual
        refused(1) { convert(ySize = 64 * 48 - 1) }
        refused(1) { convert(uvSize = 62 + 23 * 64) }
        refused(1) { convert(row = 1 shl 20) }
        refused(1) { convert(row = -64) }
        refused(1) { convert(step = Int.MAX_VALUE) }
        refused(1) { convert(width = 0) }
        refused(1) { convert(width = Int.MAX_VALUE) }
        refused(1) { convert(rotation = 45) }
        val heap = ByteBuffer.allocate(64 * 48)
        refused(1) { YuvFrame(heap, heap, heap, 64, 48, 64, 32, 1, 0).convert(false, to) }
        refused(1) { NativeCore.convert(ByteBuffer.allocateDirect(4), ByteBuffer.allocateDirect(1), ByteBuffer.allocateDirect(1),
            intArrayOf(2, 2, 0, 2, 1, 1), false, ByteBuffer.allocateDirect(15), 2, 2) }
    }

    @Test fun `a front camera's picture is upright and mirrored on the screen`() {
        val yuv = { rotation: Int -> YuvFrame(direct(10, 20, 30, 40), direct(128), direct(128), 2, 2, 2, 1, 1, rotation) }
        fun shown(rotation: Int, mirrored: Boolean): List<Int> {
            val to = RgbaFrame(2, 2)
            yuv(rotation).convert(mirrored, to)
            return List(4) { to.pixels.get(4 * it).toInt() }
        }
        assertEquals(listOf(10, 20, 30, 40), shown(0, false))
        assertEquals(listOf(20, 10, 40, 30), shown(0, true))
        assertEquals(listOf(30, 10, 40, 20), shown(90, false))
        assertEquals(listOf(10, 30, 20, 40), shown(90, true))
    }

    private fun direct(vararg values: Int): ByteBuffer {
        val out = ByteBuffer.allocateDirect(values.size)
        values.forEachIndexed { i, value -> out.put(i, value.toByte()) }
        return out
    }

    @Test fun `closing twice or using a closed engine is an error in Kotlin, not a crash in C++`() {
        val engine = open()
        engine.close()
        engine.close()
        assertThrows(IllegalStateException::class.java) { engine.swap(RgbaFrame(64, 64), null, 0.0) }
    }

    @Test fun `a report is of the same form as mfs-bench-device prints`() = open().use { engine ->
        val options = BenchOptions(warmup = 1, runs = 2, sustainedSeconds = 1.2)
        val folder = place.newFolder()
        ReferenceFile.unpack(File(bundle, ReferenceFile.NAME), folder)
        val bench = Bench(engine, manifest, options, { Sample(it, emptyMap(), listOf(0L)) })
        val machine = Machine("Linux", "x86_64", "", 1, NativeEngine.compiler)
        val report = bench.run(NativeEngine.version, machine, 1.0, folder)
        System.getProperty("mfs.report")?.let { writeWhole(File(it), writeJson(report)) } // held against the other by check.sh
        assertTrue((report["tool"] as String).startsWith("mfs-core "))
        assertEquals("ncnn", report["backend"])
    }
}
