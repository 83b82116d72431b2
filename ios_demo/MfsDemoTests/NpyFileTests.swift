@testable import MfsDemo
import XCTest

final class NpyFileTests: XCTestCase {
    private func file(_ header: String, _ content: [UInt8]) -> Data {
        let text = Array((header + "\n").utf8)
        return Data([0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.count & 255), UInt8(text.count >> 8)] + text + content)
    }

    func testBytesAndTheirShape() throws {
        let npy = try NpyFile(file("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", [1, 2, 3, 4, 5, 6]), name: "a")
        XCTAssertEqual(npy.shape, [2, 3])
        XCTAssertEqual(try npy.bytes([-1, 3], name: "a"), [1, 2, 3, 4, 5, 6])
        XCTAssertThrowsError(try npy.bytes([3, 2], name: "a"))
        XCTAssertThrowsError(try npy.floats([2, 3], name: "a"))
    }

    func testFloats() throws {
        let npy = try NpyFile(file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", [0, 0, 0x80, 0x3f]), name: "a")
        XCTAssertEqual(try npy.floats([1], name: "a"), [1])
    }

    func testWhatIsWrittenIsReadAgain() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString, isDirectory: true)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let values: [Float] = [0, 0.5, 1, -1, 2, 3]
        try NpyFile.write(values, shape: [1, 2, 3], name: "a", in: folder)
        XCTAssertEqual(try NpyFile.read("a", in: folder).floats([1, 2, 3], name: "a"), values)
        let bytes = try Data(contentsOf: folder.appendingPathComponent("a.npy")).count
        XCTAssertEqual((bytes - values.count * 4) % 64, 0)
    }

    func testNamesOfCases() throws {
        let letters: [UInt8] = [97, 0, 0, 0, 98, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]
        let npy = try NpyFile(file("{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }", letters), name: "case")
        XCTAssertEqual(try npy.texts(), ["ab", "c"])
    }

    func testDamagedFilesAreRefused() {
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }"
        XCTAssertThrowsError(try NpyFile(Data(), name: "a"))
        XCTAssertThrowsError(try NpyFile(file(header, [1, 2, 3]), name: "a"))
        XCTAssertThrowsError(try NpyFile(file(header, [1, 2, 3, 4]).dropLast(3), name: "a"))
        XCTAssertThrowsError(try NpyFile(file(header.replacingOccurrences(of: "False", with: "True"), [1, 2, 3, 4]), name: "a"))
        XCTAssertThrowsError(try NpyFile(file(header.replacingOccurrences(of: "|u1", with: "|O"), [1, 2, 3, 4]), name: "a"))
        XCTAssertThrowsError(try NpyFile(file(header.replacingOccurrences(of: "4,", with: "999999999,"), [1]), name: "a"))
    }
}
