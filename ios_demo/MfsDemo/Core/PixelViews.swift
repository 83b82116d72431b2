import CoreVideo
import Foundation
import MfsCore

/// A pixel buffer that is not of the form that was agreed on.
struct PixelProblem: LocalizedError {
    let description: String

    var errorDescription: String? { description }
}

extension CVPixelBuffer {
    /// Runs `body` while the buffer's memory may be touched.
    func withLock<Result>(readOnly: Bool, _ body: () throws -> Result) throws -> Result {
        let flags: CVPixelBufferLockFlags = readOnly ? .readOnly : []
        let status = CVPixelBufferLockBaseAddress(self, flags)
        guard status == kCVReturnSuccess else { throw PixelProblem(description: "a pixel buffer cannot be locked: \(status)") }
        defer { CVPixelBufferUnlockBaseAddress(self, flags) }
        return try body()
    }

    /// The memory of a BGRA buffer as mobile_core sees it.  Valid within withLock only.
    func frameView() throws -> mfs_frame {
        let base = try baseAddress(of: kCVPixelFormatType_32BGRA)
        var view = mfs_frame()
        view.format = Int32(MFS_BGRA.rawValue)
        view.width = Int32(CVPixelBufferGetWidth(self))
        view.height = Int32(CVPixelBufferGetHeight(self))
        view.planes.0 = base.assumingMemoryBound(to: UInt8.self)
        view.row_stride.0 = Int32(CVPixelBufferGetBytesPerRow(self))
        return view
    }

    /// The network's picture: BGRA bytes, read from the red one backwards.  Valid within withLock only.
    func pictureTensor(size: Int) throws -> mfs_tensor {
        let base = try baseAddress(of: kCVPixelFormatType_32BGRA)
        try checkSize(size)
        var tensor = mfs_tensor()
        tensor.data = UnsafeRawPointer(base + AppContract.redByte)
        tensor.type = Int32(MFS_UINT8.rawValue)
        tensor.channel_stride = -1
        tensor.row_stride = Int64(CVPixelBufferGetBytesPerRow(self))
        tensor.pixel_stride = Int64(AppContract.bytesPerPixel)
        return tensor
    }

    /// The network's mask: one 16-bit float a pixel.  Valid within withLock only.
    func maskTensor(size: Int) throws -> mfs_tensor {
        let base = try baseAddress(of: kCVPixelFormatType_OneComponent16Half)
        try checkSize(size)
        var tensor = mfs_tensor()
        tensor.data = UnsafeRawPointer(base)
        tensor.type = Int32(MFS_FLOAT16.rawValue)
        tensor.row_stride = Int64(CVPixelBufferGetBytesPerRow(self) / 2)
        tensor.pixel_stride = 1
        return tensor
    }

    private func baseAddress(of format: OSType) throws -> UnsafeMutableRawPointer {
        let found = CVPixelBufferGetPixelFormatType(self)
        guard found == format, let base = CVPixelBufferGetBaseAddress(self) else {
            throw PixelProblem(description: "a pixel buffer has format \(found), must be \(format)")
        }
        return base
    }

    private func checkSize(_ size: Int) throws {
        let width = CVPixelBufferGetWidth(self)
        let height = CVPixelBufferGetHeight(self)
        guard width == size, height == size else {
            throw PixelProblem(description: "the network gave \(width)x\(height) pixels, must be \(size)x\(size)")
        }
    }
}

extension mfs_frame {
    /// RGB bytes without gaps, such as a reference photo.  The caller keeps the memory.
    static func rgb(_ pixels: UnsafeMutablePointer<UInt8>, width: Int, height: Int) -> mfs_frame {
        var view = mfs_frame()
        view.format = Int32(MFS_RGB.rawValue)
        view.width = Int32(width)
        view.height = Int32(height)
        view.planes.0 = pixels
        view.row_stride.0 = Int32(width * 3)
        return view
    }
}

/// A new BGRA buffer that the GPU and the Neural Engine can read without a copy.
func makePixelBuffer(width: Int, height: Int) throws -> CVPixelBuffer {
    let attributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as CFDictionary
    var made: CVPixelBuffer?
    let status = CVPixelBufferCreate(kCFAllocatorDefault, width, height, kCVPixelFormatType_32BGRA, attributes, &made)
    guard status == kCVReturnSuccess, let buffer = made else {
        throw PixelProblem(description: "a pixel buffer of \(width)x\(height) cannot be made: \(status)")
    }
    return buffer
}
