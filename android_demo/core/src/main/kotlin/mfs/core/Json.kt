package mfs.core

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

/** A bundle that is damaged, incomplete, or none. */
class BundleException(message: String) : Exception(message)

/**
 * A value of a JSON text that a stranger wrote: each access says what it allows, and an error names the place.
 *
 * Only what RFC 8259 allows is read, keys that come twice are refused.  Android's org.json takes more, and is not on the JVM.
 */
class Json private constructor(private val value: Any?, val place: String) {
    val isNull: Boolean get() = value == null

    operator fun get(key: String): Json {
        val members = value as? Map<*, *> ?: throw wrong("an object")
        if (key !in members) throw BundleException("$place.$key is missing")
        return Json(members[key], "$place.$key")
    }

    fun text(longest: Int = 200): String {
        val text = value as? String ?: throw wrong("a string")
        if (text.length > longest) throw BundleException("$place has ${text.length} characters, at most $longest are allowed")
        return text
    }

    fun number(low: Double, high: Double): Double {
        val number = (value as? Number)?.toDouble() ?: throw wrong("a number")
        if (number !in low..high) throw BundleException("$place is $value, must be from $low to $high")
        return number
    }

    fun integer(low: Int, high: Int): Int {
        val number = value as? Long ?: throw wrong("a whole number")
        if (number !in low..high) throw BundleException("$place is $value, must be from $low to $high")
        return number.toInt()
    }

    fun items(most: Int): List<Json> {
        val items = value as? List<*> ?: throw wrong("a list")
        if (items.size > most) throw BundleException("$place has ${items.size} items, at most $most are allowed")
        return items.mapIndexed { i, item -> Json(item, "$place[$i]") }
    }

    fun members(most: Int): Map<String, Json> {
        val members = value as? Map<*, *> ?: throw wrong("an object")
        if (members.size > most) throw BundleException("$place has ${members.size} members, at most $most are allowed")
        return members.entries.associate { (key, item) -> key as String to Json(item, "$place.$key") }
    }

    /** As maps, lists, strings, Long, Double, Boolean and null: what [writeJson] takes. */
    fun plain(): Any? = value

    private fun wrong(wanted: String) = BundleException("$place must be $wanted")

    companion object {
        const val LARGEST = 10_000_000

        /** @throws BundleException it is not UTF-8, not JSON, too large, or nested too deeply. */
        fun parse(bytes: ByteArray, name: String): Json {
            if (bytes.size > LARGEST) throw BundleException("$name has ${bytes.size} bytes, at most $LARGEST are read")
            val text = try {
                Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString()
            } catch (_: CharacterCodingException) {
                throw BundleException("$name is not UTF-8")
            }
            return Json(JsonParser(text, name).whole(), name)
        }
    }
}

private class JsonParser(private val text: String, private val name: String) {
    private var at = 0

    fun whole(): Any? {
        val value = value(0)
        skipSpace()
        if (at != text.length) throw broken("something follows the end")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > DEEPEST) throw broken("it is nested more than $DEEPEST deep")
        skipSpace()
        return when (peek()) {
            '{' -> members(depth)
            '[' -> items(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun members(depth: Int): Map<String, Any?> {
        val out = LinkedHashMap<String, Any?>()
        at++
        if (closes('}')) return out
        do {
            skipSpace()
            if (peek() != '"') throw broken("a key must be a string")
            val key = string()
            if (key in out) throw broken("the key \"$key\" comes twice")
            skipSpace()
            if (peek() != ':') throw broken("a colon is missing")
            at++
            out[key] = value(depth + 1)
        } while (hasNext('}'))
        return out
    }

    private fun items(depth: Int): List<Any?> {
        val out = ArrayList<Any?>()
        at++
        if (closes(']')) return out
        do out.add(value(depth + 1)) while (hasNext(']'))
        return out
    }

    private fun closes(end: Char): Boolean {
        skipSpace()
        if (peek() != end) return false
        at++
        return true
    }

    private fun hasNext(end: Char): Boolean {
        if (closes(end)) return false
        if (peek() != ',') throw broken("a comma or $end is missing")
        at++
        return true
    }

    private fun string(): String {
        val out = StringBuilder()
        at++
        while (true) {
            val c = peek()
            at++
            when {
                c == '"' -> return out.toString()
                c < ' ' -> throw broken("a string has a control character")
                c == '\\' -> out.append(escaped())
                else -> out.append(c)
            }
        }
    }

    private fun escaped(): Char {
        val c = peek()
        at++
        if (c == 'u') {
            val digits = text.substring(at, minOf(at + 4, text.length))
            if (!HEX.matches(digits)) throw broken("\\u needs four digits")
            at += 4
            return digits.toInt(16).toChar()
        }
        val index = "\"\\/bfnrt".indexOf(c)
        if (index < 0) throw broken("there is no escape \\$c")
        return "\"\\/\b\u000c\n\r\t"[index]
    }

    private fun number(): Number {
        val found = NUMBER.matchAt(text, at)?.value ?: throw broken("no value begins with '${text[at]}'")
        at += found.length
        val number = found.toDouble()
        if (number.isInfinite()) throw broken("$found is too large")
        return found.toLongOrNull() ?: number
    }

    private fun word(word: String, value: Any?): Any? {
        if (!text.startsWith(word, at)) throw broken("no value begins with '${text[at]}'")
        at += word.length
        return value
    }

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else throw broken("it ends in the middle")

    private fun broken(why: String) = BundleException("$name is not JSON: $why (character ${at + 1})")

    private companion object {
        const val DEEPEST = 64
        val HEX = Regex("[0-9a-fA-F]{4}")
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}

/** Of maps, lists, strings, numbers, booleans and null.  A number that is not finite becomes null: JSON has no word for it. */
fun writeJson(value: Any?): String = when (value) {
    null -> "null"
    is String -> quoted(value)
    is Boolean -> value.toString()
    is Double -> if (value.isFinite()) value.toString() else "null"
    is Int, is Long -> value.toString()
    is Map<*, *> -> value.entries.joinToString(",", "{", "}") { (key, item) -> quoted(key as String) + ":" + writeJson(item) }
    is List<*> -> value.joinToString(",", "[", "]") { writeJson(it) }
    else -> throw IllegalArgumentException("${value::class} has no JSON form")
}

private fun quoted(text: String): String = buildString {
    append('"')
    for (c in text) {
        when {
            c == '"' || c == '\\' -> append('\\').append(c)
            c < ' ' -> append("\\u").append(c.code.toString(16).padStart(4, '0'))
            else -> append(c)
        }
    }
    append('"')
}
