import CoreVideo
import Foundation
import MfsCore

struct BenchOptions {
    let bundle: BundleFolder
    let computeUnits: ComputeUnits
    var warmup = 10
    var runs = 50
    var sustainedSeconds = 0.0
    var reportName: String?  // nil: one made of the time
    var dumpName: String?  // a folder beside the report, for the network's outputs on the reference's crops
}

struct BenchOutcome {
    let file: URL  // in Documents/reports
    let json: String
    let complaints: [String]
}

/// A frame to time on: the reference's photo and its landmarks, or a grey 720p frame with a face of half its height.
struct BenchScene {
    let name: String
    let pixels: [UInt8]  // RGB
    let width: Int
    let height: Int
    let landmarks: [Double]

    init(_ manifest: Manifest, reference: URL?) throws {
        if let folder = reference, NpyFile.exists("frame_rgb", in: folder), NpyFile.exists("landmarks", in: folder) {
            let file = try NpyFile.read("frame_rgb", in: folder)
            pixels = try file.bytes([-1, -1, 3], name: "frame_rgb")
            landmarks = try NpyFile.read("landmarks", in: folder).doubles([5, 2], name: "landmarks")
            height = file.shape[0]
            width = file.shape[1]
            name = "reference"
            return
        }
        name = "grey"
        width = 1280
        height = 720
        pixels = [UInt8](repeating: 128, count: width * height * 3)
        let points = manifest.alignment.points
        guard points.count == 5, points.allSatisfy({ $0.count == 2 }) else {
            throw BundleProblem(message: "alignment.points must be five")
        }
        let scale = Double(height) / 2 / manifest.alignment.base
        let (left, top) = (Double(width) / 4, Double(height) / 4)
        landmarks = points.flatMap { [left + $0[0] * scale, top + $0[1] * scale] }
    }
}

/// Is this bundle right on this phone, and how fast is it?
final class BenchRun {
    private let options: BenchOptions
    private let swapper: Swapper
    private let scene: BenchScene
    private let canvas: CVPixelBuffer
    private let fresh: CVPixelBuffer  // the scene, untouched

    /// Off the main thread.  `progress` may be called on any.
    static func run(_ options: BenchOptions, progress: @escaping (String) -> Void) async throws -> BenchOutcome {
        let start = now()
        let swapper = try await Swapper(bundle: options.bundle, computeUnits: options.computeUnits)
        let openMs = (now() - start) * 1e3
        return try await withCheckedThrowingContinuation { (done: CheckedContinuation<BenchOutcome, Error>) in
            DispatchQueue.global(qos: .userInteractive).async {
                done.resume(with: Result { try BenchRun(options, swapper).measure(openMs: openMs, progress: progress) })
            }
        }
    }

    private init(_ options: BenchOptions, _ swapper: Swapper) throws {
        self.options = options
        self.swapper = swapper
        scene = try BenchScene(swapper.manifest, reference: options.bundle.reference)
        canvas = try makePixelBuffer(width: scene.width, height: scene.height)
        fresh = try makePixelBuffer(width: scene.width, height: scene.height)
        try BenchRun.fill(fresh, scene)
    }

    private func measure(openMs: Double, progress: (String) -> Void) throws -> BenchOutcome {
        var check: SelfCheck?
        if let folder = options.bundle.reference {
            progress("checking")
            check = try SelfCheck(swapper, folder: folder, dump: try options.dumpName.map { try BenchReport.emptyFolder($0) })
        }
        progress("timing")
        for _ in 0..<options.warmup { _ = try frame() }
        var frames: [StageTimes] = []
        for _ in 0..<options.runs { frames.append(try frame()) }

        var report = BenchReport.head(swapper, detector: hasFace ? "Vision" : nil)
        report["open_ms"] = jsonNumber(openMs)
        report["warmup"] = options.warmup
        report["runs"] = options.runs
        report["frame"] = ["name": scene.name, "width": scene.width, "height": scene.height] as [String: Any]
        if !frames.isEmpty { report["latency_ms"] = BenchReport.stages(frames) }
        if options.sustainedSeconds > 0 { report["sustained"] = try sustained(progress) }
        if let check = check {
            report["parity"] = check.json
        } else {
            report["parity"] = NSNull()
        }
        let (file, json) = try BenchReport.write(report, name: options.reportName)
        return BenchOutcome(file: file, json: json, complaints: check?.complaints ?? [])
    }

    private var hasFace: Bool { scene.name == "reference" }

    /// One whole frame.  Vision is timed where there is a face to find; the landmarks are the scene's, the same on all phones.
    private func frame() throws -> StageTimes {
        try copyScene()  // a camera's next frame; not timed
        return try autoreleasepool { () throws -> StageTimes in
            let start = now()
            if hasFace { _ = try swapper.findsFace(in: canvas) }
            let detected = now()
            var times = try swapper.swap(canvas, landmarks: scene.landmarks)
            times.detect = hasFace ? (detected - start) * 1e3 : 0
            times.total = (now() - start) * 1e3
            return times
        }
    }

    /// Frames without a pause, in parts of a second: does it stay as fast once the phone is warm?
    private func sustained(_ progress: (String) -> Void) throws -> [String: Any] {
        let start = now()
        var part = start
        var (total, inPart) = (0, 0)
        var samples = [BenchReport.sample(seconds: 0)]
        var fps: [Double] = []
        while now() - start < options.sustainedSeconds {
            _ = try frame()
            total += 1
            inPart += 1
            let done = now()
            if done - part >= 1 {
                fps.append(Double(inPart) / (done - part))
                samples.append(BenchReport.sample(seconds: done - start))
                part = done
                inPart = 0
                progress("\(Int(done - start)) of \(Int(options.sustainedSeconds)) s")
            }
        }
        let elapsed = now() - start
        return [
            "seconds": jsonNumber(elapsed), "frames": total, "fps": jsonNumber(Double(total) / elapsed),
            "fps_by_second": BenchReport.distribution(fps), "samples": samples,
        ]
    }

    private func copyScene() throws {
        try fresh.withLock(readOnly: true) { () throws -> Void in
            try canvas.withLock(readOnly: false) { () throws -> Void in
                let from = try fresh.frameView()
                let to = try canvas.frameView()
                guard let source = from.planes.0, let target = to.planes.0 else { return }
                let bytes = min(Int(from.row_stride.0), Int(to.row_stride.0))
                for y in 0..<scene.height {
                    memcpy(target + y * Int(to.row_stride.0), source + y * Int(from.row_stride.0), bytes)
                }
            }
        }
    }

    private static func fill(_ buffer: CVPixelBuffer, _ scene: BenchScene) throws {
        var pixels = scene.pixels
        try pixels.withUnsafeMutableBufferPointer { rgb in
            guard let base = rgb.baseAddress else { return }
            var from = mfs_frame.rgb(base, width: scene.width, height: scene.height)
            try buffer.withLock(readOnly: false) { () throws -> Void in
                var to = try buffer.frameView()
                try NativeError.check(mfs_frame_convert(&from, 0, &to))
            }
        }
    }
}
