import Foundation
import MfsCore

/// The bench as a Mac starts it on a phone, without a finger: MfsDemo --bench face01 --report now.json [--dump now] ...
struct BenchCommand: Equatable {
    let bundle: String
    let report: String
    var dump: String?
    var units = ComputeUnits.all
    var warmup = 10
    var runs = 50
    var sustained = 0.0

    /// Exit codes as the mfs command has them.
    enum ExitCode {
        static let usage: Int32 = 2
        static let failed: Int32 = 6
        static let parity: Int32 = 7
        static let bundle: Int32 = 8
    }

    /// nil where the arguments do not ask for a bench.  Throws BundleProblem where one is not understood.
    static func parse(_ arguments: [String]) throws -> BenchCommand? {
        guard let start = arguments.firstIndex(of: "--bench") else { return nil }
        var values: [String: String] = [:]
        var rest = arguments[start...]
        while let option = rest.popFirst() {
            guard let value = rest.popFirst() else { throw BundleProblem(message: "\(option) needs a value") }
            values[option] = value
        }
        let known: Set = ["--bench", "--report", "--dump", "--units", "--warmup", "--runs", "--sustained"]
        if let odd = values.keys.sorted().first(where: { !known.contains($0) }) {
            throw BundleProblem(message: "there is no option \(odd), only \(known.sorted().joined(separator: ", "))")
        }
        var command = BenchCommand(
            bundle: try fileName(values["--bench"], of: "--bench"), report: try fileName(values["--report"], of: "--report")
        )
        if let text = values["--dump"] {
            let name = try fileName(text, of: "--dump")
            guard name != command.report else { throw BundleProblem(message: "--dump and --report need two names") }
            command.dump = name
        }
        if let text = values["--units"] {
            guard let units = ComputeUnits(rawValue: text) else {
                let choices = ComputeUnits.allCases.map { $0.rawValue }.joined(separator: ", ")
                throw BundleProblem(message: "--units \(text): choose from \(choices)")
            }
            command.units = units
        }
        command.warmup = Int(try number(values["--warmup"], of: "--warmup", otherwise: 10, most: 1e5))
        command.runs = Int(try number(values["--runs"], of: "--runs", otherwise: 50, most: 1e6))
        command.sustained = try number(values["--sustained"], of: "--sustained", otherwise: 0, most: 86_400)
        return command
    }

    /// Deletes what `mfs bench` has copied and what was written of it, where the arguments ask for that: devicectl cannot.
    /// Throws BundleProblem where the name is another's.
    static func forget(_ arguments: [String], documents: URL = BundleLibrary.documents) throws -> Bool {
        guard let at = arguments.firstIndex(of: "--forget") else { return false }
        let name = try fileName(at + 1 < arguments.count ? arguments[at + 1] : nil, of: "--forget")
        guard name.hasPrefix("mfs-") else {
            throw BundleProblem(message: "--forget \(name): only copies of mfs bench are deleted, whose names begin with mfs-")
        }
        let reports = documents.appendingPathComponent("reports", isDirectory: true)
        let left = [documents.appendingPathComponent(name)]
            + [name, name + ".json"].map { reports.appendingPathComponent($0) }
        for item in left where FileManager.default.fileExists(atPath: item.path) {
            try FileManager.default.removeItem(at: item)
        }
        return true
    }

    /// What the report is to be called by arguments that are otherwise not understood.
    static func report(in arguments: [String]) -> String? {
        guard let at = arguments.firstIndex(of: "--report"), at + 1 < arguments.count else { return nil }
        return try? fileName(arguments[at + 1], of: "--report")
    }

    /// Runs it and gives the exit code.  The report lies in Documents/reports; what went wrong is on stderr, and in the report.
    func run() async -> Int32 {
        BenchReport.remove(report)  // whoever waits for this run's must not find an earlier one
        guard let folder = BundleLibrary.list().first(where: { $0.name == bundle }) else {
            return BenchCommand.fail(ExitCode.usage, "there is no bundle \(bundle) in the app's Documents", report: report)
        }
        if dump != nil && folder.reference == nil {
            let message = "--dump needs the bundle's reference folder, which prepare_bundle.py unpacks"
            return BenchCommand.fail(ExitCode.usage, message, report: report)
        }
        var options = BenchOptions(bundle: folder, computeUnits: units)
        options.warmup = warmup
        options.runs = runs
        options.sustainedSeconds = sustained
        options.reportName = report
        options.dumpName = dump
        do {
            let outcome = try await BenchRun.run(options) { _ in }
            outcome.complaints.forEach(BenchCommand.complain)
            return outcome.complaints.isEmpty ? 0 : ExitCode.parity
        } catch {
            let isBundle = error is BundleProblem || (error as? NativeError)?.status == MFS_ERROR_BUNDLE
            let code = isBundle ? ExitCode.bundle : ExitCode.failed
            return BenchCommand.fail(code, error.localizedDescription, report: report)
        }
    }

    /// Says on stderr what went wrong, and in the report, for whoever waits for one.  Returns the code.
    static func fail(_ code: Int32, _ message: String, report: String?) -> Int32 {
        complain(message)
        if let name = report { _ = try? BenchReport.write(["error": message], name: name) }
        return code
    }

    static func complain(_ message: String) {
        FileHandle.standardError.write(Data("error: \(message)\n".utf8))
    }

    /// A name that leads nowhere else.
    private static func fileName(_ text: String?, of option: String) throws -> String {
        guard let name = text, !name.isEmpty, !name.hasPrefix("."), !name.contains("/") else {
            throw BundleProblem(message: "\(option) needs a file's name, without a folder")
        }
        return name
    }

    private static func number(_ text: String?, of option: String, otherwise: Double, most: Double) throws -> Double {
        guard let text = text else { return otherwise }
        guard let value = Double(text), value >= 0, value <= most else {
            throw BundleProblem(message: "\(option) \(text): a number from 0 to \(Int(most)) is needed")
        }
        return value
    }
}
