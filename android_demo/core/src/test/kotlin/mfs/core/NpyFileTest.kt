package mfs.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** As NumPy writes it. */
fun npy(type: NpyFile.Type, shape: String, values: ByteArray): ByteArray {
    val header = "{'descr': '${type.code}', 'fortran_order': False, 'shape': $shape, }".padEnd(117) + "\n"
    return "\u0093NUMPY\u0001\u0000".toByteArray(Charsets.ISO_8859_1) +
        byteArrayOf(header.length.toByte(), 0) + header.toByteArray() + values
}

fun doubles(vararg values: Double): ByteArray =
    ByteBuffer.allocate(8 * values.size).order(ByteOrder.LITTLE_ENDIAN).apply { values.forEach(::putDouble) }.array()

class NpyFileTest {
    @get:Rule val place = TemporaryFolder()

    private fun parse(file: ByteArray, type: NpyFile.Type, vararg sides: Int?) = NpyFile.parse(file, "it.npy", type, sides.toList())

    private fun refused(file: ByteArray, type: NpyFile.Type, vararg sides: Int?): String =
        assertThrows(BundleException::class.java) { parse(file, type, *sides) }.message!!

    @Test fun `values come in the order and with the shape that they were written with`() {
        val bytes = ByteArray(12) { it.toByte() }
        val read = parse(npy(NpyFile.Type.UINT8, "(2, 2, 3)", bytes), NpyFile.Type.UINT8, null, null, 3)
        assertEquals(listOf(2, 2, 3), read.shape)
        assertEquals(ByteBuffer.wrap(bytes), read.values)
        val points = parse(npy(NpyFile.Type.FLOAT64, "(2,)", doubles(0.5, -3.0)), NpyFile.Type.FLOAT64, 2).values.asDoubleBuffer()
        assertEquals(listOf(0.5, -3.0), List(2) { points[it] })
    }

    @Test fun `another type or shape is named before a value is read`() {
        val file = npy(NpyFile.Type.UINT8, "(2, 2, 3)", ByteArray(12))
        assertEquals("it.npy is |u1 of [2, 2, 3], must be |u1 of (any, any, 4)", refused(file, NpyFile.Type.UINT8, null, null, 4))
        assertEquals("it.npy is |u1 of [2, 2, 3], must be <f8 of (5, 2)", refused(file, NpyFile.Type.FLOAT64, 5, 2))
    }

    @Test fun `a shape that is not that of the bytes is refused, however large it says it is`() {
        for (shape in listOf("(2, 3, 3)", "(1, 2, 3)", "(999999999, 999999999, 3)", "(0, 999999999, 3)")) {
            val message = refused(npy(NpyFile.Type.UINT8, shape, ByteArray(12)), NpyFile.Type.UINT8, null, null, 3)
            assertTrue(message, message.startsWith("it.npy has 12 bytes of values, its shape asks for "))
        }
        refused(npy(NpyFile.Type.UINT8, "(9999999999, 2, 3)", ByteArray(12)), NpyFile.Type.UINT8, null, null, 3)
        refused(npy(NpyFile.Type.UINT8, "(-2, -2, 3)", ByteArray(12)), NpyFile.Type.UINT8, null, null, 3)
    }

    @Test fun `damage anywhere in the header and a file cut short are refused, never a crash`() {
        val good = npy(NpyFile.Type.UINT8, "(2, 2, 3)", ByteArray(12))
        for (i in good.indices) refused(good.copyOf(i), NpyFile.Type.UINT8, null, null, 3)
        for (i in 0 until 118 + 10) {
            for (byte in listOf(0, 39, 44, 57, 255)) {
                val bad = good.copyOf().also { it[i] = byte.toByte() }
                try { parse(bad, NpyFile.Type.UINT8, null, null, 3) } catch (_: BundleException) { }
            }
        }
        val columns = String(good, Charsets.ISO_8859_1).replace("False", "True ").toByteArray(Charsets.ISO_8859_1)
        assertTrue("header" in refused(columns, NpyFile.Type.UINT8, null, null, 3))
        val missing = assertThrows(BundleException::class.java) {
            NpyFile.read(File(place.root, "none.npy"), NpyFile.Type.UINT8, listOf(3))
        }
        assertTrue("none.npy cannot be read" in missing.message!!)
    }
}

class SceneTest {
    @get:Rule val place = TemporaryFolder()
    private val manifest = Manifest.parse(MANIFEST.toByteArray())
    private val points = DoubleArray(10) { it + 0.5 }

    private fun write(name: String, content: ByteArray) = File(place.root, "$name.npy").writeBytes(content)

    private fun pixels(frame: RgbaFrame) = List(frame.pixels.capacity()) { frame.pixels[it].toInt() and 0xff }

    @Test fun `what is measured is the reference's photo, fresh for each frame`() {
        write("frame_rgb", npy(NpyFile.Type.UINT8, "(1, 2, 3)", byteArrayOf(1, 2, 3, -56, 5, 6)))
        write("landmarks", npy(NpyFile.Type.FLOAT64, "(5, 2)", doubles(*points)))
        val scene = Scene.of(manifest, place.root)
        assertEquals("reference", scene.name)
        assertEquals(points.toList(), scene.landmarks.toList())
        assertEquals(2 to 1, scene.width to scene.height)
        scene.frame().pixels.put(0, 99)
        assertEquals(listOf(1, 2, 3, 255, 200, 5, 6, 255), pixels(scene.frame()))
    }

    @Test fun `a bundle without a photo is measured on grey, with the face in the middle half`() {
        write("frame_rgb", npy(NpyFile.Type.UINT8, "(1, 2, 3)", ByteArray(6)))
        for (scene in listOf(Scene.of(manifest, null), Scene.of(manifest, place.root))) {
            assertEquals(listOf("grey", 1280, 720), listOf(scene.name, scene.width, scene.height))
            assertEquals(listOf(128), pixels(scene.frame()).distinct())
            for (i in 0 until 5) {
                assertTrue(scene.landmarks[2 * i] in 320.0..960.0)
                assertTrue(scene.landmarks[2 * i + 1] in 180.0..540.0)
            }
        }
    }

    @Test fun `a photo or landmarks of another shape are named, not measured`() {
        write("landmarks", npy(NpyFile.Type.FLOAT64, "(10,)", doubles(*points)))
        val wrong = mapOf("(2, 3)" to "frame_rgb.npy is |u1", "(0, 2, 3)" to "0 pixels", "(1, 2, 3)" to "landmarks.npy is <f8")
        for ((shape, complaint) in wrong) {
            write("frame_rgb", npy(NpyFile.Type.UINT8, shape, ByteArray(if (shape[1] == '0') 0 else 6)))
            val message = assertThrows(BundleException::class.java) { Scene.of(manifest, place.root) }.message!!
            assertTrue(message, complaint in message)
        }
    }
}
