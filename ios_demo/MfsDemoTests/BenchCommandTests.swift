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
            ["MfsDemo", "--bench", "f", "--report", "r", "--units", "CPU only", "--warmup", "1", "--runs", "2", "--sustained", "60"]
        )
        XCTAssertEqual(command, BenchCommand(bundle: "f", report: "r", units: .cpu, warmup: 1, runs: 2, sustained: 60))
    }

    func testWhatIsNotUnderstoodIsRefused() {
        let wrong = [
            ["--bench"], ["--bench", "f"], ["--bench", "f", "--report", "../r"], ["--bench", "a/b", "--report", "r"],
            ["--bench", "f", "--report", "r", "--unit", "all"], ["--bench", "f", "--report", "r", "--units", "TPU"],
            ["--bench", "f", "--report", "r", "--runs", "-1"], ["--bench", "f", "--report", "r", "--runs", "nan"],
        ]
        for arguments in wrong {
            XCTAssertThrowsError(try BenchCommand.parse(arguments), "\(arguments)")
        }
    }
}
