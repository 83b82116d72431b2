import Foundation

/// One of NumPy's .npy files, version 1 or 2, C order, of the types that reference tensors have.
struct NpyFile {
    static let mostBytes = 200_000_000
    static let mostTexts = 1000

    let dtype: String  // "|u1", "<f4", "<f8", or "<U" with the number of characters
    let shape: [Int]
    private let content: Data

    /// Throws BundleProblem where the file is none, or has other bytes than its header says.
    init(_ file: Data, name: String) throws {
        func problem(_ what: String) -> BundleProblem { BundleProblem(message: "\(name).npy \(what)") }
        let bytes = [UInt8](file.prefix(12))
        guard bytes.count == 12, Array(bytes[0..<6]) == [0x93] + Array("NUMPY".utf8), bytes[6] == 1 || bytes[6] == 2 else {
            throw problem("is not one")
        }
        let start = bytes[6] == 1 ? 10 : 12
        var length = Int(bytes[8]) | Int(bytes[9]) << 8
        if bytes[6] == 2 { length |= Int(bytes[10]) << 16 | Int(bytes[11]) << 24 }
        guard length <= file.count - start else { throw problem("ends within its header") }
        let first = file.startIndex + start
        let header = String(decoding: file[first..<(first + length)], as: UTF8.self)
        let entries = (
            NpyFile.value(of: "descr", in: header, until: ","),
            NpyFile.value(of: "fortran_order", in: header, until: ","),
            NpyFile.value(of: "shape", in: header, until: ")")
        )
        guard case let (descr?, order?, sides?) = entries, sides.hasPrefix("(") else {
            throw problem("has a header that cannot be read")
        }
        guard order == "False" else { throw problem("is in Fortran order") }
        dtype = descr.trimmingCharacters(in: CharacterSet(charactersIn: "'"))
        guard let itemSize = NpyFile.itemSize(dtype) else { throw problem("is of type \(dtype)") }
        var found: [Int] = []
        var total = itemSize
        for side in sides.dropFirst().split(separator: ",") {
            let text = side.trimmingCharacters(in: .whitespaces)
            if text.isEmpty { continue }
            guard let count = Int(text), count >= 0, count <= NpyFile.mostBytes, found.count < 8 else {
                throw problem("has the shape \(sides))")
            }
            found.append(count)
            total *= count  // both factors are below 2^28
            guard total <= NpyFile.mostBytes else { throw problem("is too large") }
        }
        guard file.count - start - length == total else { throw problem("does not have the bytes of its shape") }
        shape = found
        content = Data(file[(first + length)...])
    }

    static func exists(_ name: String, in folder: URL) -> Bool {
        FileManager.default.fileExists(atPath: folder.appendingPathComponent("\(name).npy").path)
    }

    static func read(_ name: String, in folder: URL) throws -> NpyFile {
        guard let data = try? Data(contentsOf: folder.appendingPathComponent("\(name).npy"), options: .mappedIfSafe) else {
            throw BundleProblem(message: "the reference has no \(name).npy: run prepare_bundle.py again")
        }
        return try NpyFile(data, name: name)
    }

    /// Writes float32 values as folder/name.npy.
    static func write(_ values: [Float], shape: [Int], name: String, in folder: URL) throws {
        let sides = shape.map { "\($0), " }.joined()
        var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(sides)), }"
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"  // values begin at a multiple of 64
        let length = header.utf8.count
        var file = Data([0x93])
        file.append(contentsOf: "NUMPY".utf8)
        file.append(contentsOf: [1, 0, UInt8(length & 255), UInt8(length >> 8)])
        file.append(contentsOf: header.utf8)
        values.withUnsafeBytes { file.append(contentsOf: $0) }
        try file.write(to: folder.appendingPathComponent("\(name).npy"))
    }

    /// The values, checked to be of the type and the shape; -1 stands for any side.
    func bytes(_ sides: [Int], name: String) throws -> [UInt8] { try values("|u1", sides, name, zero: 0) }
    func floats(_ sides: [Int], name: String) throws -> [Float] { try values("<f4", sides, name, zero: 0) }
    func doubles(_ sides: [Int], name: String) throws -> [Double] { try values("<f8", sides, name, zero: 0) }

    /// A list of strings; what is not printable ASCII becomes "?".
    func texts() throws -> [String] {
        guard dtype.hasPrefix("<U"), shape.count == 1, shape[0] <= NpyFile.mostTexts, let width = Int(dtype.dropFirst(2)) else {
            throw BundleProblem(message: "the reference's case is no list of at most \(NpyFile.mostTexts) names")
        }
        let bytes = [UInt8](content)
        return (0..<shape[0]).map { item in
            var text = ""
            for at in stride(from: item * width * 4, to: (item + 1) * width * 4, by: 4) {
                let isOneByte = bytes[(at + 1)..<(at + 4)].allSatisfy { $0 == 0 }
                if isOneByte && bytes[at] == 0 { continue }
                let isPrintable = isOneByte && bytes[at] >= 0x20 && bytes[at] < 0x7f
                text.append(isPrintable ? Character(UnicodeScalar(bytes[at])) : "?")
            }
            return text
        }
    }

    private func values<Value>(_ wanted: String, _ sides: [Int], _ name: String, zero: Value) throws -> [Value] {
        let fits = dtype == wanted && shape.count == sides.count && zip(shape, sides).allSatisfy { $0 == $1 || $1 == -1 }
        guard fits else {
            throw BundleProblem(message: "the reference's \(name) is \(dtype) \(shape), must be \(wanted) \(sides)")
        }
        var out = [Value](repeating: zero, count: shape.reduce(1, *))
        _ = out.withUnsafeMutableBytes { content.copyBytes(to: $0) }
        return out
    }

    /// What stands behind 'key': in the header, a dict as Python writes it.
    private static func value(of key: String, in header: String, until end: Character) -> String? {
        guard let at = header.range(of: "'\(key)':") else { return nil }
        let rest = header[at.upperBound...]
        guard let stop = rest.firstIndex(of: end) else { return nil }
        return rest[..<stop].trimmingCharacters(in: .whitespaces)
    }

    private static func itemSize(_ dtype: String) -> Int? {
        switch dtype {
        case "|u1": return 1
        case "<f4": return 4
        case "<f8": return 8
        default:
            guard dtype.hasPrefix("<U"), let width = Int(dtype.dropFirst(2)), width > 0, width < 10_000 else { return nil }
            return 4 * width
        }
    }
}
