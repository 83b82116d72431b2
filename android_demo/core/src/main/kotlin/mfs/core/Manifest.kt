package mfs.core

import java.io.File

/** What the app shows and offers of a bundle before it opens it.  Hashes and all else are mobile_core's to check, on opening. */
class Manifest private constructor(
    val architecture: String,
    /** Side of a crop in pixels. */
    val size: Int,
    val input: String,
    /** The pictures' name first, then the mask's, where there is one. */
    val outputs: List<String>,
    /** x and y of five points in a crop of side [templateBase]. */
    val template: DoubleArray,
    val templateBase: Double,
    /** What must stand on every swapped frame. */
    val label: String,
    val disclosure: String,
    /** By backend. */
    val artifacts: Map<String, Artifact>,
) {
    class Artifact(val recipe: String, val layout: String, val files: List<String>)

    /** Backends that are both in the bundle and in mobile_core, in the order to be offered. */
    val backends: List<String> get() = BACKENDS.filter { it in artifacts }

    companion object {
        const val NAME = "manifest.json"
        const val SCHEMA = 1
        val BACKENDS = listOf("ncnn", "tflite")

        /** @throws BundleException it is missing or not what this version reads; says why. */
        fun read(folder: File): Manifest {
            val file = File(folder, NAME)
            if (!file.isFile) throw BundleException("${folder.name} has no $NAME")
            val bytes = file.length()
            if (bytes > Json.LARGEST) throw BundleException("$NAME has $bytes bytes, at most ${Json.LARGEST} are read")
            return parse(file.readBytes())
        }

        fun parse(bytes: ByteArray): Manifest {
            val said = Json.parse(bytes, "manifest")
            val schema = said["schema"].integer(0, 1_000_000)
            if (schema != SCHEMA) throw BundleException("the manifest has schema $schema, this version reads $SCHEMA")
            val contract = said["contract"]
            val points = said["alignment"]["points"].items(5).map { point -> point.items(2).map { it.number(-4096.0, 4096.0) } }
            if (points.size != 5 || points.any { it.size != 2 }) {
                throw BundleException("manifest.alignment.points must be five of x, y")
            }
            val outputs = contract["outputs"].items(2).map { it["name"].text(40) }
            if (outputs.isEmpty()) throw BundleException("manifest.contract.outputs is empty")
            val label = said["synthetic_media"]["label"].text()
            if (label.isBlank()) throw BundleException("manifest.synthetic_media.label is empty: swapped frames must be labelled")
            val artifacts = said["artifacts"].members(16).mapValues { (_, entry) ->
                Artifact(entry["recipe"].text(80), entry["layout"].text(20), entry["files"].items(8).map { it.text() })
            }
            if (artifacts.isEmpty()) throw BundleException("manifest.artifacts is empty")
            return Manifest(
                architecture = contract["arch"].text(40),
                size = contract["size"].integer(32, 1024),
                input = contract["input"]["name"].text(40),
                outputs = outputs,
                template = points.flatten().toDoubleArray(),
                templateBase = said["alignment"]["base"].number(1.0, 4096.0),
                label = label,
                disclosure = said["synthetic_media"]["disclosure"].text(1000),
                artifacts = artifacts,
            )
        }
    }
}

/** A folder in which bundles lie, and what is the matter with those that cannot be used. */
class BundleList(val usable: Map<String, Found>, val broken: Map<String, String>) {
    class Found(val folder: File, val manifest: Manifest)

    companion object {
        /** Of the roots' subfolders; a name in an earlier root hides the same in a later one.  A bad bundle hides no other. */
        fun of(vararg roots: File): BundleList {
            val usable = LinkedHashMap<String, Found>()
            val broken = LinkedHashMap<String, String>()
            val folders = roots.flatMap { it.listFiles().orEmpty().sorted() }.filter { it.isDirectory && !it.name.startsWith(".") }
            for (folder in folders) {
                if (folder.name in usable || folder.name in broken) continue
                try {
                    val manifest = Manifest.read(folder)
                    if (manifest.backends.isEmpty()) {
                        throw BundleException("it has none of ${Manifest.BACKENDS}, but ${manifest.artifacts.keys}")
                    }
                    usable[folder.name] = Found(folder, manifest)
                } catch (e: BundleException) {
                    broken[folder.name] = e.message.orEmpty()
                } catch (e: java.io.IOException) {
                    broken[folder.name] = "it cannot be read: ${e.message}"
                }
            }
            return BundleList(usable, broken)
        }
    }
}
