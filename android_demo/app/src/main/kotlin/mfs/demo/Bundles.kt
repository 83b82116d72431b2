package mfs.demo

import android.content.Context
import android.content.res.AssetManager
import java.io.File
import java.io.IOException
import mfs.core.BundleList

/** Where bundles, a detector and LiteRT's library come from: the app's assets, and what `adb push` has put into its folder. */
class Bundles(private val context: Context) {
    /** On a phone: /sdcard/Android/data/mfs.demo/files. */
    val pushed: File = context.getExternalFilesDir(null) ?: context.filesDir

    /** Made at once: else the first `adb push FOLDER bundles/` would become this folder, not go into it. */
    private val folder = File(pushed, "bundles").apply { mkdirs() }

    /** For all bundles that have none of their own; null where none was pushed. */
    val detector: File? get() = File(pushed, "detector").takeIf { it.isDirectory }

    /** LiteRT may be inside the APK (jniLibs), where the system finds it; null where it is not: opening then says so. */
    val litert: File? get() = File(context.applicationInfo.nativeLibraryDir, "libLiteRt.so").takeIf { it.isFile }

    /** Unpacks assets that are not yet unpacked.  @throws IOException no space. */
    fun list(): BundleList {
        val builtIn = File(context.noBackupFilesDir, "bundles-${installedAt()}")
        for (name in context.assets.list(ASSETS).orEmpty()) {
            val unpacked = File(builtIn, name)
            if (context.assets.list("$ASSETS/$name").isNullOrEmpty() || unpacked.isDirectory) continue
            val beside = File(builtIn, ".$name")
            beside.deleteRecursively() // of an interrupted attempt
            copy(context.assets, "$ASSETS/$name", beside)
            if (!beside.renameTo(unpacked)) throw IOException("$unpacked cannot be written")
        }
        for (old in context.noBackupFilesDir.listFiles().orEmpty()) {
            if (old.name.startsWith("bundles-") && old != builtIn) old.deleteRecursively() // of an earlier version of the app
        }
        return BundleList.of(folder, builtIn)
    }

    private fun installedAt(): Long = context.packageManager.getPackageInfo(context.packageName, 0).lastUpdateTime

    private fun copy(assets: AssetManager, from: String, to: File) {
        val inside = assets.list(from).orEmpty()
        if (inside.isEmpty()) {
            assets.open(from).use { source -> to.outputStream().use { source.copyTo(it) } }
            return
        }
        if (!to.mkdirs()) throw IOException("$to cannot be made")
        for (name in inside) copy(assets, "$from/$name", File(to, name))
    }

    private companion object {
        const val ASSETS = "bundles"
    }
}
