package mfs.core

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** An array as NumPy writes it: .npy, version 1, C order. */
class NpyFile private constructor(
    val shape: List<Int>,
    /** Little-endian, from the first value to the last. */
    val values: ByteBuffer,
) {
    enum class Type(val code: String, val bytes: Int) { UINT8("|u1", 1), FLOAT32("<f4", 4), FLOAT64("<f8", 8) }

    companion object {
        private const val MOST_BYTES = 200_000_000L
        private const val PREFIX = 10 // magic, version, length of the header
        private val MAGIC = "\u0093NUMPY\u0001\u0000".toByteArray(Charsets.ISO_8859_1)
        private val HEADER =
            Regex("""\{'descr': '([^']*)', 'fortran_order': False, 'shape': \(((?:[0-9]{1,9}(?:, ?|(?=\))))*)\), \} *\n""")

        /**
         * @param sides what the shape must be; null stands for any length.
         * @throws BundleException the file cannot be read, or holds anything else; says what.
         */
        fun read(file: File, type: Type, sides: List<Int?>): NpyFile {
            val size = file.length()
            if (size > MOST_BYTES) throw BundleException("${file.name} has $size bytes, at most $MOST_BYTES are read")
            try {
                return parse(file.readBytes(), file.name, type, sides)
            } catch (e: IOException) {
                throw BundleException("${file.name} cannot be read: ${e.message}")
            }
        }

        fun parse(file: ByteArray, name: String, type: Type, sides: List<Int?>): NpyFile {
            if (file.size < PREFIX || !file.copyOf(MAGIC.size).contentEquals(MAGIC)) throw BundleException("$name is no .npy file")
            val start = PREFIX + ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getShort(MAGIC.size).toUShort().toInt()
            if (start > file.size) throw BundleException("$name ends within its header")
            val header = String(file, PREFIX, start - PREFIX, Charsets.ISO_8859_1)
            val (code, list) = HEADER.matchEntire(header)?.destructured
                ?: throw BundleException("$name has the header ${header.take(100)}")
            val shape = list.split(',').filter { it.isNotBlank() }.map { it.trim().toInt() }
            val fits = shape.size == sides.size && sides.zip(shape).all { (wanted, side) -> wanted == null || wanted == side }
            if (code != type.code || !fits) {
                val wanted = sides.joinToString(", ", "(", ")") { it?.toString() ?: "any" }
                throw BundleException("$name is $code of $shape, must be ${type.code} of $wanted")
            }
            val bytes = shape.fold(type.bytes.toLong()) { product, side -> if (product > MOST_BYTES) product else product * side }
            val has = (file.size - start).toLong()
            if (bytes != has) throw BundleException("$name has $has bytes of values, its shape asks for $bytes")
            return NpyFile(shape, ByteBuffer.wrap(file, start, file.size - start).slice().order(ByteOrder.LITTLE_ENDIAN))
        }
    }
}
