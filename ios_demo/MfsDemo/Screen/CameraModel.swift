import AVFoundation
import Foundation

/// What the overlay shows.
struct OverlayStats: Equatable {
    var fps = Double.nan
    var sustainedFps = Double.nan
    var p50 = Double.nan
    var p90 = Double.nan
    var detect = Double.nan
    var align = Double.nan
    var network = Double.nan
    var paste = Double.nan
    var dropped = 0

    init() {}

    init(_ statistics: FrameStatistics) {
        fps = statistics.fps(over: FrameStatistics.recent)
        sustainedFps = statistics.fps(over: FrameStatistics.sustained)
        p50 = statistics.percentile(\.total, 0.5)
        p90 = statistics.percentile(\.total, 0.9)
        detect = statistics.percentile(\.detect, 0.5)
        align = statistics.percentile(\.align, 0.5)
        network = statistics.percentile(\.network, 0.5)
        paste = statistics.percentile(\.paste, 0.5)
        dropped = statistics.dropped
    }
}

/// The state of the camera's screen.
@MainActor
final class CameraModel: ObservableObject {
    @Published private(set) var bundles: [BundleFolder] = []
    @Published private(set) var inUse: String?  // "face01, fp16, all"
    @Published private(set) var stats = OverlayStats()
    @Published private(set) var isLoading = false
    @Published private(set) var problem: String?
    @Published var selected: BundleFolder?
    @Published var computeUnits = ComputeUnits.all
    @Published var isFront = true

    let screen: FrameScreen
    private let pipeline: FramePipeline
    private let camera: Camera
    private var loads = 0

    init() {
        let screen = FrameScreen()
        let pipeline = FramePipeline()
        self.screen = screen
        self.pipeline = pipeline
        camera = Camera(onFrame: { pipeline.process($0) }, onDrop: { pipeline.drop() })
        pipeline.onFrame = { screen.show($0) }
        pipeline.onFailure = { [weak self] message in
            Task { @MainActor [weak self] in self?.problem = message }
        }
    }

    func listBundles() {
        bundles = BundleLibrary.list()
        if let current = selected, !bundles.contains(current) { selected = nil }
        if selected == nil { selected = bundles.first }
    }

    func startCamera() async {
        do {
            try await camera.start(position: isFront ? .front : .back)
        } catch {
            problem = error.localizedDescription
        }
    }

    func stopCamera() {
        camera.stop()
    }

    /// Prepares the selected bundle beside the one in use, which stays in use where this fails.
    func load() async {
        guard let bundle = selected else { return }
        loads += 1
        let mine = loads
        isLoading = true
        defer { if mine == loads { isLoading = false } }
        do {
            let fresh = try await Swapper(bundle: bundle, computeUnits: computeUnits)
            guard mine == loads else { return }  // another was chosen meanwhile
            pipeline.use(fresh)
            inUse = "\(bundle.name), \(fresh.contract.recipeName), \(fresh.engine.computeUnits.rawValue)"
            problem = nil
        } catch {
            if mine == loads { problem = "\(bundle.name): \(error.localizedDescription)" }
        }
    }

    /// Twice a second, until the task is cancelled.
    func watchStats() async {
        while !Task.isCancelled {
            stats = OverlayStats(pipeline.statistics)
            try? await Task.sleep(nanoseconds: 500_000_000)
        }
    }

    func dismissProblem() {
        problem = nil
    }
}
