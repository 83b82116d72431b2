package mfs.core

import java.io.File
import java.io.IOException

/** A network's input or output, as its artifact or the contract has it. */
data class Tensor(val name: String, val shape: List<Int>) {
    override fun toString() = "$name $shape"
}

/** What the app needs of a bundle before it opens it.  Hashes and all else are mobile_core's to check, on opening. */
class Manifest private constructor(
    /** The input first, then the picture, then the mask, where there is one; in (N, C, H, W). */
    val contract: List<Tensor>,
    /** x and y of five points in a crop of side [templateBase]. */
    val template: DoubleArray,
    val templateBase: Double,
    /** What must stand on every swapped frame. */
    val label: String,
    /** By backend, also of those that no phone has. */
    val artifacts: Map<String, Artifact>,
) {
    /** Tensors are in `layout`, in the order of their names. */
    data class Artifact(val layout: String, val tensors: List<Tensor>)

    /** Backends that are both in the bundle and in mobile_core, in the order to be offered. */
    val backends: List<String> get() = LAYOUTS.keys.filter { it in artifacts }

    /** An artifact that is not of the contract is named in the list of bundles, before anybody chooses it. */
    private fun check() {
        for (backend in backends) {
            val (layout, found) = artifacts.getValue(backend)
            val wanted = LAYOUTS.getValue(backend)
            if (layout != wanted) throw BundleException("manifest.artifacts.$backend.layout is $layout, must be $wanted")
            val tensors = contract.map { Tensor(it.name, wanted.map { side -> it.shape[CONTRACT.indexOf(side)] }) }
            if (found != tensors.sortedBy { it.name }) {
                throw BundleException("manifest.artifacts.$backend has $found, its contract asks for $tensors")
            }
        }
    }

    companion object {
        const val NAME = "manifest.json"

        /** The latest that is read; each earlier one is too. */
        const val SCHEMA = 2
        private const val CONTRACT = "NCHW"

        /** Backends of mobile_core, and in which layout it takes their tensors. */
        val LAYOUTS = mapOf("ncnn" to "CHW", "tflite" to "NHWC")

        /** @throws BundleException it is missing, cannot be read, or is not what this version reads; says why. */
        fun read(folder: File): Manifest {
            val file = File(folder, NAME)
            if (!file.isFile) throw BundleException("${folder.name} has no $NAME")
            val bytes = file.length()
            if (bytes > Json.LARGEST) throw BundleException("$NAME has $bytes bytes, at most ${Json.LARGEST} are read")
            try {
                return parse(file.readBytes())
            } catch (e: IOException) {
                throw BundleException("$NAME cannot be read: ${e.message}")
            }
        }

        fun parse(bytes: ByteArray): Manifest {
            val said = Json.parse(bytes, "manifest")
            val schema = said["schema"].integer(0, 1_000_000)
            if (schema !in 1..SCHEMA) throw BundleException("the manifest has schema $schema, this version reads 1 to $SCHEMA")
            val points = said["alignment"]["points"].items(5).map { point -> point.items(2).map { it.number(-4096.0, 4096.0) } }
            if (points.size != 5 || points.any { it.size != 2 }) {
                throw BundleException("manifest.alignment.points must be five of x, y")
            }
            val outputs = said["contract"]["outputs"].items(2)
            if (outputs.isEmpty()) throw BundleException("manifest.contract.outputs is empty")
            val contract = (listOf(said["contract"]["input"]) + outputs).map(::tensor)
            for (spec in contract) {
                if (spec.shape.size != CONTRACT.length) throw BundleException("manifest.contract has $spec, must be in $CONTRACT")
            }
            val label = said["synthetic_media"]["label"].text()
            if (label.isBlank()) throw BundleException("manifest.synthetic_media.label is empty: swapped frames must be labelled")
            val artifacts = said["artifacts"].members(16).mapValues { (_, entry) ->
                val tensors = (entry["inputs"].items(2) + entry["outputs"].items(2)).map(::tensor)
                Artifact(entry["layout"].text(20), tensors.sortedBy { it.name })
            }
            if (artifacts.isEmpty()) throw BundleException("manifest.artifacts is empty")
            val base = said["alignment"]["base"].number(1.0, 4096.0)
            return Manifest(contract, points.flatten().toDoubleArray(), base, label, artifacts).apply { check() }
        }

        private fun tensor(said: Json) = Tensor(said["name"].text(40), said["shape"].items(4).map { it.integer(1, 4096) })
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
                        throw BundleException("it has none of ${Manifest.LAYOUTS.keys}, but ${manifest.artifacts.keys}")
                    }
                    usable[folder.name] = Found(folder, manifest)
                } catch (e: BundleException) {
                    broken[folder.name] = e.message.orEmpty()
                }
            }
            return BundleList(usable, broken)
        }
    }
}
