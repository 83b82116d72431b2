package mfs.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Of the members that the app reads. */
const val MANIFEST = """{"schema": 1, "contract": {"arch": "mobilefaceswap", "size": 224, "input": {"name": "target"},
  "outputs": [{"name": "swapped"}, {"name": "mask"}]},
  "alignment": {"base": 112, "points": [[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]]},
  "synthetic_media": {"label": "AI-generated", "disclosure": "A face was replaced."},
  "artifacts": {"coreml": {"recipe": "fp16", "layout": "NCHW", "files": ["swap.mlpackage"]},
    "ncnn": {"recipe": "fp16", "layout": "CHW", "files": ["swap.param", "swap.bin"]}}}"""

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
        assertEquals(listOf("swapped", "mask"), found.outputs)
        assertEquals(224, found.size)
        assertEquals("fp16", found.artifacts.getValue("ncnn").recipe)
    }

    @Test fun `no bundle gets onto the screen without a label`() {
        assertTrue("label is empty" in refused(MANIFEST.replace("AI-generated", " ")))
        assertTrue("synthetic_media is missing" in refused(MANIFEST.replace("synthetic_media", "other")))
    }

    @Test fun `a bundle of a later schema is named as such`() = assertEquals(
        "the manifest has schema 2, this version reads 1", refused(MANIFEST.replace("\"schema\": 1", "\"schema\": 2")),
    )

    @Test fun `an error names the place and what is allowed`() {
        assertEquals("manifest.contract.size is 9999, must be from 32 to 1024", refused(MANIFEST.replace("224", "9999")))
        assertEquals("manifest.contract.size must be a whole number", refused(MANIFEST.replace("224", "224.5")))
        assertEquals("manifest.alignment.points must be five of x, y", refused(MANIFEST.replace("[38, 52], ", "")))
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
