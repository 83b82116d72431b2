package mfs.demo

import android.Manifest.permission.CAMERA
import android.app.Activity
import android.content.pm.PackageManager.PERMISSION_GRANTED
import android.os.Bundle
import android.view.SurfaceHolder
import android.view.SurfaceView
import android.view.View
import android.view.WindowManager
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Spinner
import android.widget.TextView
import java.io.File
import java.io.IOException
import java.util.EnumMap
import java.util.concurrent.Executors
import mfs.core.BundleException
import mfs.core.BundleList
import mfs.core.CoreException
import mfs.core.EngineHolder
import mfs.core.LatestFrame
import mfs.core.Manifest
import mfs.core.NativeEngine

/** The camera's picture with the face of the chosen bundle, figures above it, two spinners below. */
class MainActivity : Activity(), SurfaceHolder.Callback {
    /** What a message is of: good news of one hides no bad news of another. */
    private enum class Topic { CAMERA, BUNDLES, ENGINE }

    private val engines = EngineHolder()
    private val loader = Executors.newSingleThreadExecutor()
    private lateinit var bundles: Bundles
    private lateinit var surface: SurfaceView
    private lateinit var figures: TextView
    private lateinit var message: TextView
    private lateinit var bundleSpinner: Spinner
    private lateinit var backendSpinner: Spinner
    private var found = BundleList(emptyMap(), emptyMap())
    private var wanted: Triple<String, String, Long>? = null
    private var hasSurface = false
    private val messages = EnumMap<Topic, String>(Topic::class.java)
    private var camera: Camera? = null
    private var loop: SwapLoop? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        window?.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        bundles = Bundles(this)
        surface = view(R.id.surface)
        figures = view(R.id.figures)
        message = view(R.id.message)
        bundleSpinner = view(R.id.bundle)
        backendSpinner = view(R.id.backend)
        bundleSpinner.onItemSelectedListener = chosen { offerBackends() }
        backendSpinner.onItemSelectedListener = chosen { load() }
        surface.holder.addCallback(this)
        if (checkSelfPermission(CAMERA) != PERMISSION_GRANTED) requestPermissions(arrayOf(CAMERA), 0)
    }

    /** Also after a bundle has been pushed and the app is looked at again. */
    override fun onResume() {
        super.onResume()
        loader.execute {
            try {
                val list = bundles.list()
                runOnUiThread { offer(list) }
            } catch (e: IOException) {
                say(Topic.BUNDLES, "bundles cannot be unpacked: ${e.message}")
            }
        }
    }

    override fun onDestroy() {
        super.onDestroy()
        loader.execute { engines.close() } // after a load that is under way
        loader.shutdown()
    }

    override fun onRequestPermissionsResult(code: Int, permissions: Array<String>, results: IntArray) {
        if (checkSelfPermission(CAMERA) == PERMISSION_GRANTED) start() else say(Topic.CAMERA, getString(R.string.no_permission))
    }

    override fun surfaceCreated(holder: SurfaceHolder) {
        hasSurface = true
        start()
    }

    override fun surfaceChanged(holder: SurfaceHolder, format: Int, width: Int, height: Int) = Unit

    /** Nobody may draw once this returns. */
    override fun surfaceDestroyed(holder: SurfaceHolder) {
        hasSurface = false
        loop?.close() // first: it may hold an image of the camera's
        camera?.close()
        loop = null
        camera = null
    }

    private fun start() {
        if (!hasSurface || camera != null || checkSelfPermission(CAMERA) != PERMISSION_GRANTED) return
        say(Topic.CAMERA, "")
        val frames = LatestFrame<CameraFrame>()
        loop = SwapLoop(frames, engines, surface.holder) { text -> runOnUiThread { figures.text = text } }
        camera = Camera(this, ::displayDegrees, frames) { say(Topic.CAMERA, it) }.also { it.open() }
    }

    @Suppress("DEPRECATION") // Activity.display is of API 30
    private fun displayDegrees(): Int = windowManager.defaultDisplay.rotation * 90

    private fun offer(list: BundleList) {
        if (isDestroyed) return
        val chosen = bundleSpinner.selectedItem
        found = list
        bundleSpinner.adapter = choices(list.usable.keys.toList())
        bundleSpinner.setSelection(maxOf(0, list.usable.keys.indexOf(chosen)))
        val missing = if (list.usable.isEmpty()) listOf(getString(R.string.no_bundle)) else emptyList()
        say(Topic.BUNDLES, (missing + list.broken.map { (name, why) -> "$name: $why" }).joinToString("\n"))
    }

    private fun offerBackends() {
        val name = bundleSpinner.selectedItem as? String ?: return
        val backends = found.usable.getValue(name).manifest.backends
        val chosen = backendSpinner.selectedItem
        backendSpinner.adapter = choices(backends)
        backendSpinner.setSelection(maxOf(0, backends.indexOf(chosen)))
    }

    /** Beside the running engine, which stays if this one fails. */
    private fun load() {
        val name = bundleSpinner.selectedItem as? String ?: return
        val backend = backendSpinner.selectedItem as? String ?: return
        val folder = found.usable.getValue(name).folder
        val choice = Triple(name, backend, File(folder, Manifest.NAME).lastModified()) // it may have been pushed anew
        if (wanted == choice) return
        wanted = choice
        loader.execute {
            try {
                engines.replace { NativeEngine.open(folder, backend, THREADS, bundles.litert, bundles.detector) }
                say(Topic.ENGINE, "")
            } catch (e: CoreException) {
                refused(choice, e)
            } catch (e: BundleException) {
                refused(choice, e)
            }
        }
    }

    private fun refused(choice: Triple<String, String, Long>, error: Exception) = runOnUiThread {
        if (wanted == choice) wanted = null // looking at the app again tries again
        say(Topic.ENGINE, getString(R.string.refused, choice.first, choice.second, error.message))
    }

    private inline fun <reified T : View> view(id: Int): T {
        val found: View = findViewById(id)
        return found as T
    }

    private fun say(topic: Topic, text: String) = runOnUiThread {
        messages[topic] = text
        val lines = messages.values.filter { it.isNotEmpty() }
        message.text = lines.joinToString("\n")
        message.visibility = if (lines.isEmpty()) View.GONE else View.VISIBLE
    }

    private fun choices(names: List<String>) = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, names)

    private fun chosen(then: () -> Unit) = object : AdapterView.OnItemSelectedListener {
        override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = then()

        override fun onNothingSelected(parent: AdapterView<*>?) = Unit
    }

    private companion object {
        const val THREADS = 4 // the fast cores that phones have, at least
    }
}
