import Foundation

/// Milliseconds that one frame spent in each stage.
struct StageTimes: Equatable {
    var detect = 0.0
    var align = 0.0
    var network = 0.0
    var paste = 0.0
    var total = 0.0

    /// By the names that reports use.
    static let stages: [(name: String, value: KeyPath<StageTimes, Double>)] = [
        ("detect", \.detect), ("align", \.align), ("network", \.network), ("paste", \.paste), ("total", \.total),
    ]
}

/// The same figures as mobile_core's stats.cpp.
enum Distribution {
    /// The value below which `share` of the values lie, between neighbours by linear interpolation; NaN of none.
    static func percentile(_ values: [Double], _ share: Double) -> Double {
        guard !values.isEmpty else { return .nan }
        let sorted = values.sorted()
        let at = share * Double(sorted.count - 1)
        let below = Int(at)
        let above = min(below + 1, sorted.count - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (at - Double(below))
    }

    static func mean(_ values: [Double]) -> Double {
        values.isEmpty ? .nan : values.reduce(0, +) / Double(values.count)
    }
}

/// Figures of the frames that went by.  A value: a copy stays as it is while frames go on.
struct FrameStatistics {
    static let window = 600  // frames that percentiles are of
    static let recent = 2.0  // seconds that `fps` is of
    static let sustained = 60.0  // seconds that the sustained rate is of

    private(set) var frames = 0
    private(set) var dropped = 0
    private var times: [StageTimes] = []
    private var done: [Double] = []

    /// `seconds`: when the frame was done, on a steady clock.
    mutating func add(_ ms: StageTimes, seconds: Double) {
        frames += 1
        times.append(ms)
        if times.count > FrameStatistics.window { times.removeFirst() }
        done.append(seconds)
        while done.count > 2, done[0] < seconds - FrameStatistics.sustained { done.removeFirst() }
    }

    mutating func drop() {
        dropped += 1
    }

    /// Frames a second over the last `seconds`; NaN before the second frame.
    func fps(over seconds: Double) -> Double {
        guard let last = done.last, let first = done.firstIndex(where: { $0 >= last - seconds }) else { return .nan }
        let elapsed = last - done[first]
        return elapsed > 0 ? Double(done.count - first - 1) / elapsed : .nan
    }

    func percentile(_ stage: KeyPath<StageTimes, Double>, _ share: Double) -> Double {
        Distribution.percentile(times.map { $0[keyPath: stage] }, share)
    }
}
