@testable import MfsDemo
import XCTest

final class BenchCommandTests: XCTestCase {
    func testAnOrdinaryStartIsNoBench() throws {
        XCTAssertNil(try BenchCommand.parse(["/app/MfsDemo", "-AppleLanguages", "(en)"]))
    }

    func testDefaultsAreThoseOfTheCore() throws {
        let command = try BenchCommand.parse(["/app/MfsDemo", "--bench", "face01", "--report", "a.json"])
        XCTAssertEqual(command, BenchCommand(bundle: "face01", report: "a.json"))
        XCTAssertEqual(command?.runs, 50)
        XCTAssertEqual(command?.warmup, 10)
    }

    func testAllThatCanBeAsked() throws {
        let command = try BenchCommand.parse(
            ["MfsDemo", "--bench", "f", "--report", "r", "--dump", "d", "--units", "CPU only", "--warmup", "1", "--runs", "2"]
                + ["--sustained", "60"]
        )
        XCTAssertEqual(command, BenchCommand(bundle: "f", report: "r", dump: "d", units: .cpu, warmup: 1, runs: 2, sustained: 60))
    }

    func testWhatIsNotUnderstoodIsRefused() {
        let wrong = [
            ["--bench"], ["--bench", "f"], ["--bench", "f", "--report", "../r"], ["--bench", "a/b", "--report", "r"],
            ["--bench", "f", "--report", "r", "--unit", "all"], ["--bench", "f", "--report", "r", "--units", "TPU"],
            ["--bench", "f", "--report", "r", "--runs", "-1"], ["--bench", "f", "--report", "r", "--runs", "nan"],
            ["--bench", "f", "--report", "r", "--dump", ".."], ["--bench", "f", "--report", "r", "--dump", "r"],
        ]
        for arguments in wrong {
            XCTAssertThrowsError(try BenchCommand.parse(arguments), "\(arguments)")
        }
    }

    func testOnlyWhatWasCopiedForABenchIsForgotten() throws {
        let documents = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString, isDirectory: true)
        defer { try? FileManager.default.removeItem(at: documents) }
        for name in ["face01", "mfs-1", "mfs-2", "reports/mfs-1"] {
            let folder = documents.appendingPathComponent(name, isDirectory: true)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
        try Data("{}".utf8).write(to: documents.appendingPathComponent("reports/mfs-1.json"))
        XCTAssertTrue(try BenchCommand.forget(["MfsDemo", "--forget", "mfs-1"], documents: documents))
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: documents.path).sorted(), ["face01", "mfs-2", "reports"])
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: documents.path + "/reports"), [])
        XCTAssertFalse(try BenchCommand.forget(["MfsDemo", "--bench", "face01"], documents: documents))
        for name in ["face01", "../mfs-2", "mfs-2/../face01", ""] {
            XCTAssertThrowsError(try BenchCommand.forget(["MfsDemo", "--forget", name], documents: documents), name)
        }
    }

    func testWhoeverWaitsForAReportIsToldWhatWentWrong() async throws {
        let name = "test-\(UUID().uuidString).json"
        let file = BenchReport.reports.appendingPathComponent(name)
        defer { try? FileManager.default.removeItem(at: file) }
        let arguments = ["MfsDemo", "--bench", "f", "--report", name]
        XCTAssertEqual(BenchCommand.report(in: arguments + ["--runs"]), name)
        XCTAssertNil(BenchCommand.report(in: ["--report", "../\(name)"]))
        let command = try XCTUnwrap(try BenchCommand.parse(["MfsDemo", "--bench", UUID().uuidString, "--report", name]))
        let code = await command.run()
        XCTAssertEqual(code, BenchCommand.ExitCode.usage)
        let said = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: String]
        XCTAssertEqual(said?.keys.sorted(), ["error"])
        XCTAssertTrue(try XCTUnwrap(said?["error"]).contains(command.bundle))
    }
}
