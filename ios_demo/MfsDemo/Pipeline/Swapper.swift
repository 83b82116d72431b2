import CoreVideo
import Foundation
import MfsCore

/// One bundle in use: face, crop, network, paste-back, label.  Use it from one thread at a time.
final class Swapper {
    let bundle: BundleFolder
    let manifest: Manifest
    let contract: CoreMLContract
    let native: NativeBundle
    let engine: CoreMLEngine
    private let label: SyntheticLabel
    private let faces = FaceLandmarks()
    private let smoother: LandmarkSmoother

    /// Reads, checks and compiles a bundle.  Throws before anything that is in use has been touched.
    init(bundle: BundleFolder, computeUnits: ComputeUnits) async throws {
        let native = try NativeBundle(folder: bundle.url)  // first: it checks every file
        let manifest = try Manifest.read(folder: bundle.url)
        let contract = try manifest.coreML()
        let engine = try await CoreMLEngine(contract: contract, folder: bundle.url, computeUnits: computeUnits)
        let label = try SyntheticLabel(text: contract.label)
        smoother = try LandmarkSmoother()
        self.bundle = bundle
        self.native = native
        self.manifest = manifest
        self.contract = contract
        self.engine = engine
        self.label = label
    }

    /// Finds a face and swaps it, in place; its landmarks are smoothed from frame to frame.  `seconds`: the frame's time on any
    /// steady clock.  Returns the times, or nil where there is no face and the frame is as it was.
    func swap(_ frame: CVPixelBuffer, seconds: Double) throws -> StageTimes? {
        let start = now()
        let found = try faces.find(in: frame)
        let detected = now()
        guard let measured = found else {
            smoother.reset()
            return nil
        }
        do {
            var times = try swap(frame, landmarks: try smoother.smooth(measured, seconds: seconds))
            times.detect = (detected - start) * 1e3
            times.total = (now() - start) * 1e3
            return times
        } catch {
            smoother.reset()
            if error is LandmarkProblem { return nil }  // what Vision found on one line is no face; nothing has been written yet
            throw error
        }
    }

    /// Swaps the face at ten given numbers as they are, in place.
    func swap(_ frame: CVPixelBuffer, landmarks: [Double]) throws -> StageTimes {
        var times = StageTimes()
        let start = now()
        try frame.withLock(readOnly: false) { () throws -> Void in
            var view = try frame.frameView()
            let back = try engine.crop.withLock(readOnly: false) { () throws -> [Double] in
                var crop = try engine.crop.frameView()
                return try native.align(frame: &view, landmarks: landmarks, crop: &crop)
            }
            let aligned = now()
            let output = try engine.run()
            let computed = now()
            try paste(output, into: &view, back: back)
            try label.draw(into: frame)
            times.align = (aligned - start) * 1e3
            times.network = (computed - aligned) * 1e3
            times.paste = (now() - computed) * 1e3
        }
        times.total = (now() - start) * 1e3
        return times
    }

    /// Whether Vision finds a face in a frame; for timing.
    func findsFace(in frame: CVPixelBuffer) throws -> Bool {
        try faces.find(in: frame) != nil
    }

    func paste(_ output: NetworkOutput, into view: inout mfs_frame, back: [Double]) throws {
        try output.swapped.withLock(readOnly: true) { () throws -> Void in
            let swapped = try output.swapped.pictureTensor(size: contract.size)
            guard let buffer = output.mask else {
                try native.paste(frame: &view, swapped: swapped, mask: nil, back: back)
                return
            }
            try buffer.withLock(readOnly: true) { () throws -> Void in
                let mask = try buffer.maskTensor(size: contract.size)
                try native.paste(frame: &view, swapped: swapped, mask: mask, back: back)
            }
        }
    }
}

/// Seconds on a steady clock.
func now() -> Double {
    ProcessInfo.processInfo.systemUptime
}
