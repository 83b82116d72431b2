package mfs.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class JsonTest {
    private fun parse(text: String) = Json.parse(text.toByteArray(), "it")

    @Test fun `a text survives being read and written`() {
        val text = """{"a":[1,-2.5,true,false,null,{}],"b":"\"\\\u000aé😀","c":12345678901}"""
        assertEquals(text, writeJson(parse(text).plain()))
        assertEquals("\u0041\n/\uD83D\uDE00", parse(""""\u0041\n\/\ud83d\ude00"""").text())
    }

    @Test fun `a report never holds a number that others cannot read`() =
        assertEquals("[null,null,1.5]", writeJson(listOf(Double.NaN, Double.POSITIVE_INFINITY, 1.5)))

    @Test fun `what is no JSON is refused, however close`() {
        val texts = listOf(
            "", " ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "{'a':1}", "01", "+1", ".5", "1.",
            "NaN", "Infinity", "1e999", "nul", "1 2",
            "\"\\x\"", "\"\\u12\"", "\"\\u00g0\"", "\"a", "\"\n\"", "// c\n1", "{\"a\":1,\"a\":2}",
            "[".repeat(100_000), "\"\u0000\"", "{\"a\"}",
        )
        for (text in texts) assertThrows("\"${text.take(20)}\" was read", BundleException::class.java) { parse(text) }
        assertThrows(BundleException::class.java) { Json.parse(byteArrayOf(34, -1, 34), "it") }
    }

    @Test fun `damage anywhere is refused or read, never a crash`() {
        val good = MANIFEST.toByteArray()
        for (i in good.indices) {
            for (byte in listOf(0, 34, 45, 92, 125, 0xff)) {
                val bad = good.copyOf().also { it[i] = byte.toByte() }
                try { Manifest.parse(bad) } catch (_: BundleException) { }
            }
            try { Manifest.parse(good.copyOf(i)) } catch (_: BundleException) { continue }
            throw AssertionError("the first $i bytes alone were read")
        }
    }
}
