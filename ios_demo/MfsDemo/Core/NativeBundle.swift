import Foundation
import MfsCore

/// What mobile_core says when a call fails.
struct NativeError: LocalizedError {
    let status: mfs_status
    let message: String

    var errorDescription: String? { message }

    /// Throws unless `status` is MFS_OK.  To be called on the thread that made the call.
    static func check(_ status: mfs_status) throws {
        if status != MFS_OK { throw NativeError(status: status, message: String(cString: mfs_last_error())) }
    }
}

/// Five landmarks that no crop can be cut by: they lie on one line, or are not finite.
struct LandmarkProblem: LocalizedError {
    let message: String

    var errorDescription: String? { message }
}

/// A bundle opened by mobile_core: every file checked against the manifest; alignment and paste-back as the exporter does them.
/// It never changes once open, so any thread may use it.
final class NativeBundle {
    /// What a report names the bundle by.
    struct Digests: Decodable {
        let contractSha256: String
        let manifestSha256: String

        enum CodingKeys: String, CodingKey {
            case contractSha256 = "contract_sha256"
            case manifestSha256 = "manifest_sha256"
        }
    }

    let digests: Digests
    private let handle: OpaquePointer

    init(folder: URL) throws {
        var opened: OpaquePointer?
        try NativeError.check(mfs_bundle_open(folder.path, &opened))
        guard let handle = opened else { throw BundleProblem(message: "mobile_core gave no bundle") }
        self.handle = handle
        do {
            digests = try JSONDecoder().decode(Digests.self, from: Data(String(cString: mfs_bundle_json(handle)).utf8))
        } catch {
            mfs_bundle_close(handle)  // deinit does not run for what init has not finished
            throw error
        }
    }

    deinit {
        mfs_bundle_close(handle)
    }

    /// Cuts the aligned crop of a face into `crop`.  `landmarks`: x and y of five points in pixels of the frame.
    /// Returns the (2, 3) affine from pixels of the crop to pixels of the frame, row by row.  Throws LandmarkProblem, NativeError.
    func align(frame: inout mfs_frame, landmarks: [Double], crop: inout mfs_frame) throws -> [Double] {
        guard landmarks.count == 10 else { throw BundleProblem(message: "\(landmarks.count) numbers are not five landmarks") }
        var back = [Double](repeating: 0, count: 6)
        let status = mfs_align(handle, &frame, landmarks, &crop, &back)
        if status == MFS_ERROR_ARGUMENT { throw LandmarkProblem(message: String(cString: mfs_last_error())) }
        try NativeError.check(status)
        return back
    }

    /// Blends a swapped crop into the frame, in place, within the face's box.
    func paste(frame: inout mfs_frame, swapped: mfs_tensor, mask: mfs_tensor?, back: [Double]) throws {
        guard back.count == 6 else { throw BundleProblem(message: "\(back.count) numbers are no affine") }
        var swapped = swapped
        if var mask = mask {
            try NativeError.check(mfs_paste(handle, &frame, &swapped, &mask, back))
        } else {
            try NativeError.check(mfs_paste(handle, &frame, &swapped, nil, back))
        }
    }
}
