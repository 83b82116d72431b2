import AVFoundation
import Foundation

/// From the camera's frames to the screen's.  Frames come on the camera's queue, all else from anywhere.
final class FramePipeline {
    /// Called on the camera's queue with every frame that may be shown.
    var onFrame: ((CMSampleBuffer) -> Void)?
    /// Called on the camera's queue where a frame failed; that frame is not shown.
    var onFailure: ((String) -> Void)?
    private let lock = NSLock()
    private var swapper: Swapper?
    private var figures = FrameStatistics()

    var statistics: FrameStatistics {
        lock.lock()
        defer { lock.unlock() }
        return figures
    }

    /// Takes a prepared bundle into use, from the next frame on.
    func use(_ fresh: Swapper) {
        lock.lock()
        defer { lock.unlock() }
        swapper = fresh
        figures = FrameStatistics()
    }

    func drop() {
        lock.lock()
        defer { lock.unlock() }
        figures.drop()
    }

    func process(_ sample: CMSampleBuffer) {
        guard let frame = CMSampleBufferGetImageBuffer(sample) else { return }
        lock.lock()
        let swapper = self.swapper
        lock.unlock()
        do {
            let seconds = CMSampleBufferGetPresentationTimeStamp(sample).seconds
            if let times = try swapper?.swap(frame, seconds: seconds) {
                lock.lock()
                if swapper === self.swapper { figures.add(times, seconds: now()) }
                lock.unlock()
            }
            onFrame?(sample)
        } catch {
            onFailure?(error.localizedDescription)
        }
    }
}
