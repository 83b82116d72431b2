package mfs.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Of the members that the app reads. */
const val MANIFEST = """{"schema": 2, "contract": {"input": {"name": "target", "shape": [1, 3, 224, 224]},
  "outputs": [{"name": "swapped", "shape": [1, 3, 224, 224]}, {"name": "mask", "shape": [1, 1, 224, 224]}]},
  "alignment": {"base": 112, "points": [[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]]},
  "synthetic_media": {"label": "AI-generated"},
  "artifacts": {"coreml": {"layout": "NCHW", "inputs": [], "outputs": []},
    "ncnn": {"layout": "CHW", "inputs": [{"name": "target", "shape": [3, 224, 224]}],
      "outputs": [{"name": "mask", "shape": [1, 224, 224]}, {"name": "swapped", "shape": [3, 224, 224]}]}}}"""

class ManifestTest {
    @get:Rule val place = TemporaryFolder()

    private fun bundle(name: String, manifest: String): File {
        val folder = File(place.root, name).apply { mkdirs() }
        File(folder, Manifest.NAME).writeText(manifest)
        return folder
    }

    private fun refused(manifest: String): String =
        assertThrows(BundleException::class.java) { Manifest.parse(manifest.toByteArray()) }.message!!

    @Test fun `the spinner offers what the bundle holds and mobile_core can run`() {
        val found = Manifest.read(bundle("face", MANIFEST))
        assertEquals(listOf("ncnn"), found.backends)
        assertEquals(listOf("target", "swapped", "mask"), found.contract.map { it.name })
    }

    @Test fun `no bundle gets onto the screen without a label`() {
        assertTrue("label is empty" in refused(MANIFEST.replace("AI-generated", " ")))
        assertTrue("synthetic_media is missing" in refused(MANIFEST.replace("synthetic_media", "other")))
    }

    @Test fun `a bundle of a later schema is named as such`() = assertEquals(
        "the manifest has schema 3, this version reads 1 to 2", refused(MANIFEST.replace("\"schema\": 2", "\"schema\": 3")),
    )

    @Test fun `bundles exported before are still read`() {
        val found = Manifest.parse(MANIFEST.replace("\"schema\": 2", "\"schema\": 1").toByteArray())
        assertEquals(listOf("ncnn"), found.backends)
    }

    @Test fun `an error names the place and what is allowed`() {
        val side = "manifest.contract.input.shape[2]"
        assertEquals("$side is 9999, must be from 1 to 4096", refused(MANIFEST.replace("224", "9999")))
        assertEquals("$side must be a whole number", refused(MANIFEST.replace("224", "224.5")))
        val flat = MANIFEST.replace("[1, 1, 224, 224]", "[1, 224]")
        assertEquals("manifest.contract has mask [1, 224], must be in NCHW", refused(flat))
        assertEquals("manifest.alignment.points must be five of x, y", refused(MANIFEST.replace("[38, 52], ", "")))
    }

    @Test fun `a network of another layout, name or size is named before it is chosen`() {
        assertEquals("manifest.artifacts.ncnn.layout is NHWC, must be CHW", refused(MANIFEST.replace("\"CHW", "\"NHWC")))
        val name = "\"mask\", \"shape\": [1, 224"
        for ((old, new) in mapOf("[3, 224, 224]" to "[3, 256, 256]", name to name.replace("mask", "alpha"))) {
            val message = refused(MANIFEST.replace(old, new))
            assertTrue(message, message.startsWith("manifest.artifacts.ncnn has ["))
            assertTrue(message, "its contract asks for [target [3, 224, 224], swapped" in message)
        }
    }

    @Test fun `one bad bundle does not hide the others`() {
        bundle("a", "{")
        bundle("b", MANIFEST)
        bundle("c", MANIFEST.replace("ncnn", "onnx"))
        File(place.root, "d").mkdir()
        val list = BundleList.of(place.root, File(place.root, "not there"))
        assertEquals(setOf("b"), list.usable.keys)
        assertEquals(setOf("a", "c", "d"), list.broken.keys)
        assertEquals("d has no manifest.json", list.broken["d"])
    }

    @Test fun `a pushed bundle takes the place of the built-in one of its name`() {
        bundle("pushed/face", MANIFEST)
        bundle("builtin/face", MANIFEST)
        val list = BundleList.of(File(place.root, "pushed"), File(place.root, "builtin"))
        assertEquals("pushed", list.usable.getValue("face").folder.parentFile.name)
    }
}
