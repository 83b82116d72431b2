package mfs.core

import java.io.File
import java.io.IOException
import kotlin.math.abs

/** Heat and clocks, as Linux tells them in files; on Android an app may read few of them.  As mfs-bench-device reads them. */
class SystemFiles(private val root: File = File("/sys")) {
    /** @param known figures that come from elsewhere. */
    fun sample(seconds: Double, known: Map<String, Double> = emptyMap()): Sample {
        val heat = LinkedHashMap(known)
        for ((number, zone) in numbered(File(root, "class/thermal"), "thermal_zone")) {
            val value = line(File(zone, "temp"))?.trim()?.toLongOrNull() ?: continue
            // The kernel's unit is a thousandth of a degree; some vendors' zones give tenths, or whole degrees.
            val unit = if (abs(value) >= 1000) 1000.0 else if (abs(value) > 150) 10.0 else 1.0
            heat["$number ${line(File(zone, "type")).orEmpty()}"] = value / unit
        }
        val khz = numbered(File(root, "devices/system/cpu"), "cpu").map { (_, core) ->
            line(File(core, "cpufreq/scaling_cur_freq"))?.trim()?.toLongOrNull() ?: 0
        }
        return Sample(seconds, heat, khz)
    }

    private fun line(file: File): String? = try {
        file.bufferedReader().use { it.readLine() }?.take(120)
    } catch (_: IOException) { // not there, or not for apps
        null
    }

    private fun numbered(folder: File, prefix: String): List<Pair<Int, File>> {
        val name = Regex("$prefix([0-9]{1,4})")
        val found = folder.listFiles().orEmpty().mapNotNull { file ->
            name.matchEntire(file.name)?.let { it.groupValues[1].toInt() to file }
        }
        return found.sortedBy { it.first }
    }
}
