import Foundation
import MfsCore

/// mobile_core's filter over landmarks from frame to frame: steady while the face rests, quick when it moves.
/// Use it from one thread at a time.
final class LandmarkSmoother {
    private let handle: OpaquePointer

    init() throws {
        var made: OpaquePointer?
        try NativeError.check(mfs_smoother_create(&made))
        guard let handle = made else { throw BundleProblem(message: "mobile_core gave no smoother") }
        self.handle = handle
    }

    deinit {
        mfs_smoother_destroy(handle)
    }

    /// `seconds`: the frame's time on any steady clock.  Throws LandmarkProblem where a number is not finite.
    func smooth(_ landmarks: [Double], seconds: Double) throws -> [Double] {
        guard landmarks.count == 10 else { throw BundleProblem(message: "\(landmarks.count) numbers are not five landmarks") }
        var out = [Double](repeating: 0, count: 10)
        let status = mfs_smooth(handle, landmarks, seconds, &out)
        if status == MFS_ERROR_ARGUMENT { throw LandmarkProblem(message: String(cString: mfs_last_error())) }
        try NativeError.check(status)
        return out
    }

    /// Forgets the face: to be called for each frame without one.
    func reset() {
        mfs_smoother_reset(handle)
    }
}
