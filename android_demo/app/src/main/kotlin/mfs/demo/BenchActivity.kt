package mfs.demo

import android.app.Activity
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.Bundle
import android.util.Log
import android.view.WindowManager
import android.widget.TextView
import java.io.File
import java.io.IOException
import kotlin.concurrent.thread
import kotlin.system.exitProcess
import mfs.core.Bench
import mfs.core.BenchOptions
import mfs.core.Machine
import mfs.core.NativeEngine
import mfs.core.ReferenceFile
import mfs.core.Sample
import mfs.core.SystemFiles
import mfs.core.reportOf
import mfs.core.writeWhole

/**
 * Measures one bundle and writes the report, without touching the camera:
 *
 *     adb shell am start -S -W -n mfs.demo/.BenchActivity --es bundle NAME [--es backend ncnn|tflite] [--ei threads N]
 *         [--ei warmup N] [--ei runs N] [--ei sustained SECONDS] [--es report NAME.json] [--es dump NAME]
 *
 * -S ends what the app was doing: else Android shows an earlier measurement again instead of starting this one.  `report` names
 * the file in the app's folder "bench", report.json if not given; it appears when it is whole, and whatever went wrong is written
 * there as {"error": ...}.  `dump` names a folder beside it, for the network's outputs on the reference's crops; it is whole when
 * the report appears.  Only adb may start this: the manifest asks for a permission of the shell.
 */
class BenchActivity : Activity() {
    private lateinit var text: TextView

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        window?.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        text = TextView(this).apply { fitsSystemWindows = true }.also(::setContentView)
        if (state == null) thread(name = "bench") { measure(intent) } // not again when the screen is turned
    }

    private fun measure(intent: Intent) {
        val bundles = Bundles(this)
        val folder = File(bundles.pushed, "bench").apply { mkdirs() }
        val name = intent.getStringExtra("report") ?: "report.json"
        if (!NAME.matches(name.removeSuffix(".json")) || !name.endsWith(".json")) {
            return say("report is \"$name\", must be $ALLOWED that ends in .json")
        }
        val file = File(folder, name)
        file.delete() // an older report must not be taken for this one
        val written = reportOf { report(intent, bundles, folder) }
        try {
            writeWhole(file, written + "\n")
            say("$file: ${written.take(LONGEST)}")
        } catch (e: IOException) {
            say("${e.message}")
            exitProcess(1) // whoever waits for the report sees that nobody will write it
        }
    }

    private fun report(intent: Intent, bundles: Bundles, folder: File): Map<String, Any?> {
        val wanted = intent.getStringExtra("bundle") ?: throw IllegalArgumentException("--es bundle NAME is needed")
        val dump = intent.getStringExtra("dump")?.let { name ->
            require(NAME.matches(name)) { "dump is \"$name\", must be $ALLOWED" }
            File(folder, name).apply { deleteRecursively() } // nor older outputs for these
        }
        val sustained = intent.getIntExtra("sustained", 0).toDouble()
        val options = BenchOptions(intent.getIntExtra("warmup", 10), intent.getIntExtra("runs", 50), sustained)
        val list = bundles.list()
        val found = list.usable[wanted] // a name, never a path
            ?: throw IllegalArgumentException("there is no bundle \"$wanted\" but ${list.usable.keys}; not usable: ${list.broken}")
        say("measuring $wanted")
        val reference = File(cacheDir, "reference").apply { deleteRecursively() } // of a measurement that was ended
        try {
            val archive = File(found.folder, ReferenceFile.NAME)
            if (archive.isFile) ReferenceFile.unpack(archive, reference)
            val start = System.nanoTime()
            val threads = intent.getIntExtra("threads", 4)
            val backend = intent.getStringExtra("backend") ?: "ncnn"
            NativeEngine.open(found.folder, backend, threads, bundles.litert, bundles.detector).use { engine ->
                val openMs = (System.nanoTime() - start) / 1e6
                val bench = Bench(engine, found.manifest, options, ::sample)
                return bench.run(NativeEngine.version, machine(), openMs, reference.takeIf { it.isDirectory }, dump)
            }
        } finally {
            reference.deleteRecursively()
        }
    }

    /** No serial number, no name of a person. */
    private fun machine() = Machine(
        system = "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})",
        architecture = Build.SUPPORTED_ABIS.first(),
        cpu = "${Build.MANUFACTURER} ${Build.MODEL} (${Build.HARDWARE})",
        cores = Runtime.getRuntime().availableProcessors(),
        compiler = NativeEngine.compiler,
    )

    /** Thermal zones and clocks where apps may read them; the battery's temperature always. */
    private fun sample(seconds: Double): Sample {
        val battery = registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val tenths = battery?.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, 0) ?: 0
        return SystemFiles().sample(seconds, if (tenths == 0) emptyMap() else mapOf("battery" to tenths / 10.0))
    }

    private fun say(line: String) {
        Log.i("mfs-bench", line)
        runOnUiThread { text.text = line }
    }

    private companion object {
        val NAME = Regex("[A-Za-z0-9_-]{1,60}")
        const val ALLOWED = "a name of 1 to 60 letters, digits, - and _"
        const val LONGEST = 2000 // characters on the screen and in the log
    }
}
