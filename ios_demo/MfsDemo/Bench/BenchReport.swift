import Foundation
import MfsCore

/// A number of a report; null where it is not finite, as mobile_core writes it.
func jsonNumber(_ value: Double) -> Any {
    value.isFinite ? value : NSNull()
}

/// The report of mfs-bench-device, schema 1, filled by this app.  What it adds: compute_units, thermal_state.
enum BenchReport {
    static let schema = 1

    /// All that does not come from a clock.
    static func head(_ swapper: Swapper, detector: String?) -> [String: Any] {
        let recipe = swapper.contract.recipe
        return [
            "schema": schema,
            "tool": "MfsDemo \(info("CFBundleShortVersionString")), \(String(cString: mfs_version()))",
            "machine": machine(),
            "bundle": swapper.bundle.name,
            "contract_sha256": swapper.native.digests.contractSha256,
            "manifest_sha256": swapper.native.digests.manifestSha256,
            "architecture": swapper.manifest.contract.arch,
            "size": swapper.contract.size,
            "backend": AppContract.backend,
            "runtime": "Core ML of \(system)",
            "recipe": swapper.contract.recipeName,
            "weights": recipe.weights,
            "activations": recipe.activations,
            "precision": recipe.activations,  // what the program asks for; Core ML does not tell what it computed in
            "pixels": true,  // the picture leaves Core ML as bytes
            "threads": NSNull(),  // Core ML's own affair
            "compute_units": swapper.engine.computeUnits.rawValue,
            "detector": detector.map { $0 as Any } ?? (NSNull() as Any),
        ]
    }

    static func stages(_ frames: [StageTimes]) -> [String: Any] {
        var out: [String: Any] = [:]
        for stage in StageTimes.stages {
            out[stage.name] = distribution(frames.map { $0[keyPath: stage.value] })
        }
        return out
    }

    static func distribution(_ values: [Double]) -> [String: Any] {
        [
            "p50": jsonNumber(Distribution.percentile(values, 0.5)),
            "p90": jsonNumber(Distribution.percentile(values, 0.9)),
            "p99": jsonNumber(Distribution.percentile(values, 0.99)),
            "min": jsonNumber(Distribution.percentile(values, 0)),
            "max": jsonNumber(Distribution.percentile(values, 1)),
            "mean": jsonNumber(Distribution.mean(values)),
        ]
    }

    /// iOS tells no temperatures and no clock rates, only how hard it holds the phone back.
    static func sample(seconds: Double) -> [String: Any] {
        let state: String
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: state = "nominal"
        case .fair: state = "fair"
        case .serious: state = "serious"
        case .critical: state = "critical"
        @unknown default: state = "unknown"
        }
        return ["seconds": jsonNumber(seconds), "heat": [String: Any](), "khz": [Any](), "thermal_state": state]
    }

    /// Where reports and what is dumped with them go.
    static var reports: URL {
        BundleLibrary.documents.appendingPathComponent("reports", isDirectory: true)
    }

    /// Into Documents/reports, whole or not at all: under `name`, or a new one.
    static func write(_ report: [String: Any], name: String? = nil) throws -> (file: URL, json: String) {
        let data = try JSONSerialization.data(withJSONObject: report, options: [.sortedKeys, .prettyPrinted])
        try FileManager.default.createDirectory(at: reports, withIntermediateDirectories: true)
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "yyyyMMdd-HHmmss"
        let file = reports.appendingPathComponent(name ?? "bench-\(formatter.string(from: Date())).json")
        try data.write(to: file, options: .atomic)
        return (file, String(decoding: data, as: UTF8.self))
    }

    /// A folder of that name in Documents/reports, with nothing in it.
    static func emptyFolder(_ name: String) throws -> URL {
        let folder = reports.appendingPathComponent(name, isDirectory: true)
        remove(name)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    /// What an earlier run has left under that name.
    static func remove(_ name: String) {
        try? FileManager.default.removeItem(at: reports.appendingPathComponent(name))
    }

    private static var system: String {
        let version = ProcessInfo.processInfo.operatingSystemVersion
        return "iOS \(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
    }

    /// Such as "iPhone15,2".
    private static var model: String {
        var name = utsname()
        uname(&name)
        return withUnsafeBytes(of: &name.machine) { bytes in
            String(decoding: bytes.prefix(while: { $0 != 0 }), as: UTF8.self)
        }
    }

    private static var architecture: String {
        #if arch(arm64)
        return "arm64"
        #else
        return "x86_64"
        #endif
    }

    private static func info(_ key: String) -> String {
        Bundle.main.object(forInfoDictionaryKey: key) as? String ?? "of unknown version"
    }

    private static func machine() -> [String: Any] {
        [
            "system": system,
            "architecture": architecture,
            "cpu": model,  // iOS names the device, not its processor
            "cores": ProcessInfo.processInfo.processorCount,
            "compiler": "Xcode \(info("DTXcode"))",
        ]
    }
}
