import CoreVideo
import Foundation
import MfsCore

/// A bundle on this phone against its reference tensors: what PyTorch made of the same crops, and the exporter of the same photo.
struct SelfCheck {
    struct Case {
        let name: String
        let swappedPsnrDb: Double
        let swappedMax: Double
        let maskMean: Double  // NaN without a mask
    }

    private(set) var cases: [Case] = []
    /// Of the first case, where it was cut from a photo.  Levels of 255.
    private(set) var alignMax: Int?
    private(set) var pasteMax: Int?
    private(set) var compositePsnrDb: Double?
    /// What is outside the recipe's tolerance; empty when all is well.
    private(set) var complaints: [String] = []

    /// `folder`: reference.npz unpacked.  `dump`: a folder that receives the network's outputs on the reference's crops, as float32
    /// .npy files (N, C, S, S) by the names of the contract.  Throws where the reference is damaged, or the network fails.
    init(_ swapper: Swapper, folder: URL, dump: URL? = nil) throws {
        let contract = swapper.contract
        let size = contract.size
        let pixels = size * size
        let names = try NpyFile.read("case", in: folder).texts()
        guard !names.isEmpty else { throw BundleProblem(message: "the reference has no cases") }
        let count = names.count
        let crops = try NpyFile.read("target_rgb", in: folder).bytes([count, size, size, 3], name: "target_rgb")
        let swapped = try NpyFile.read("swapped", in: folder).floats([count, 3, size, size], name: "swapped")
        var masks: [Float] = []
        if contract.maskName != nil {
            masks = try NpyFile.read("mask", in: folder).floats([count, 1, size, size], name: "mask")
        }
        var all: (swapped: [Float], mask: [Float]) = ([], [])
        for (i, name) in names.enumerated() {
            try SelfCheck.fill(swapper.engine.crop, with: crops[(i * pixels * 3)..<((i + 1) * pixels * 3)], size: size)
            let output = try swapper.engine.run()
            let picture = try SelfCheck.floats(ofPicture: output.swapped, size: size)
            let mask = try output.mask.map { try SelfCheck.floats(ofMask: $0, size: size) } ?? []
            let wantMask = masks.isEmpty ? nil : masks[(i * pixels)..<((i + 1) * pixels)]
            add(name, picture, mask, swapped[(i * pixels * 3)..<((i + 1) * pixels * 3)], wantMask, contract.recipe)
            all.swapped += picture
            all.mask += mask
            if i == 0 && NpyFile.exists("frame_rgb", in: folder) {
                let first = ReferenceOutput(swapped: Array(swapped.prefix(pixels * 3)), mask: Array(masks.prefix(pixels)))
                try checkPhoto(swapper, folder, crop: Array(crops.prefix(pixels * 3)), reference: first, output: output)
            }
        }
        guard let place = dump else { return }
        try NpyFile.write(all.swapped, shape: [count, 3, size, size], name: contract.swappedName, in: place)
        if let name = contract.maskName {
            try NpyFile.write(all.mask, shape: [count, 1, size, size], name: name, in: place)
        }
    }

    /// As in the report of mfs-bench-device.
    var json: [String: Any] {
        var out: [String: Any] = ["complaints": complaints]
        out["cases"] = cases.map { figures -> [String: Any] in
            [
                "case": figures.name,
                "swapped_psnr_db": jsonNumber(figures.swappedPsnrDb),
                "swapped_max": jsonNumber(figures.swappedMax),
                "mask_mean": jsonNumber(figures.maskMean),
            ]
        }
        if let levels = alignMax { out["align_max"] = levels }
        if let levels = pasteMax { out["paste_max"] = levels }
        if let db = compositePsnrDb { out["composite_psnr_db"] = jsonNumber(db) }
        return out
    }

    private struct ReferenceOutput {
        var swapped: [Float]  // (3, S, S)
        var mask: [Float]  // (S, S), or empty
    }

    private mutating func add(
        _ name: String,
        _ picture: [Float],
        _ mask: [Float],
        _ wantPicture: ArraySlice<Float>,
        _ wantMask: ArraySlice<Float>?,
        _ recipe: Manifest.Recipe
    ) {
        let (psnr, largest) = Agreement.compare(picture, wantPicture)
        let maskMean = wantMask.map { Agreement.meanError(mask, $0) } ?? Double.nan
        cases.append(Case(name: name, swappedPsnrDb: psnr, swappedMax: largest, maskMean: maskMean))
        if name == "noise" && recipe.isStatic { return }  // integer ranges cannot hold noise
        let gate = Agreement.forPixels(recipe.gate)
        // Written so that NaN is a complaint.
        require(psnr >= gate.swappedPsnrDb, "swapped_psnr_db on \(name)", psnr, gate.swappedPsnrDb)
        require(largest <= gate.swappedMax, "swapped_max on \(name)", largest, gate.swappedMax)
        if wantMask != nil { require(maskMean <= gate.maskMean, "mask_mean on \(name)", maskMean, gate.maskMean) }
    }

    /// Alignment and paste-back of the first case, which was cut from a photo.
    private mutating func checkPhoto(
        _ swapper: Swapper, _ folder: URL, crop: [UInt8], reference: ReferenceOutput, output: NetworkOutput
    ) throws {
        let size = swapper.contract.size
        let pixels = size * size
        let file = try NpyFile.read("frame_rgb", in: folder)
        let photo = try file.bytes([-1, -1, 3], name: "frame_rgb")
        let (height, width) = (file.shape[0], file.shape[1])
        let want = try NpyFile.read("composite_rgb", in: folder).bytes(file.shape, name: "composite_rgb")
        let back = try NpyFile.read("back_matrix", in: folder).doubles([2, 3], name: "back_matrix")
        if NpyFile.exists("landmarks", in: folder) {
            let landmarks = try NpyFile.read("landmarks", in: folder).doubles([5, 2], name: "landmarks")
            var canvas = photo
            var aligned = [UInt8](repeating: 0, count: pixels * 3)
            try canvas.withUnsafeMutableBufferPointer { frame in
                try aligned.withUnsafeMutableBufferPointer { cut in
                    guard let from = frame.baseAddress, let to = cut.baseAddress else { return }
                    var view = mfs_frame.rgb(from, width: width, height: height)
                    var cropView = mfs_frame.rgb(to, width: size, height: size)
                    _ = try swapper.native.align(frame: &view, landmarks: landmarks, crop: &cropView)
                }
            }
            let levels = Agreement.mostLevels(aligned, crop)
            alignMax = levels
            require(levels <= Agreement.mostLevels, "align_max", Double(levels), Double(Agreement.mostLevels))
        }
        let expected = try SelfCheck.pasted(photo, width: width, height: height) { view in
            try SelfCheck.paste(reference, into: &view, back: back, swapper)
        }
        let levels = Agreement.mostLevels(expected, want)
        pasteMax = levels
        require(levels <= Agreement.mostLevels, "paste_max", Double(levels), Double(Agreement.mostLevels))
        let ours = try SelfCheck.pasted(photo, width: width, height: height) { view in
            try swapper.paste(output, into: &view, back: back)
        }
        compositePsnrDb = Agreement.psnrDb(ours, want)
    }

    private mutating func require(_ holds: Bool, _ what: String, _ value: Double, _ limit: Double) {
        if !holds { complaints.append(what + String(format: " is %.4g, limit %.4g", value, limit)) }
    }

    /// A copy of a photo with something pasted into it.
    private static func pasted(
        _ photo: [UInt8], width: Int, height: Int, _ paste: (inout mfs_frame) throws -> Void
    ) throws -> [UInt8] {
        var canvas = photo
        try canvas.withUnsafeMutableBufferPointer { pixels in
            guard let base = pixels.baseAddress else { return }
            var view = mfs_frame.rgb(base, width: width, height: height)
            try paste(&view)
        }
        return canvas
    }

    private static func paste(_ reference: ReferenceOutput, into view: inout mfs_frame, back: [Double], _ swapper: Swapper) throws {
        let size = swapper.contract.size
        try reference.swapped.withUnsafeBytes { picture in
            try reference.mask.withUnsafeBytes { weights in
                let swapped = tensor(picture, size: size)
                let mask = reference.mask.isEmpty ? nil : tensor(weights, size: size)
                try swapper.native.paste(frame: &view, swapped: swapped, mask: mask, back: back)
            }
        }
    }

    /// float32, channel by channel.
    private static func tensor(_ bytes: UnsafeRawBufferPointer, size: Int) -> mfs_tensor {
        var out = mfs_tensor()
        out.data = bytes.baseAddress
        out.type = Int32(MFS_FLOAT32.rawValue)
        out.channel_stride = Int64(size * size)
        out.row_stride = Int64(size)
        out.pixel_stride = 1
        return out
    }

    /// RGB bytes into a BGRA buffer.
    static func fill(_ buffer: CVPixelBuffer, with rgb: ArraySlice<UInt8>, size: Int) throws {
        try buffer.withLock(readOnly: false) { () throws -> Void in
            let view = try buffer.frameView()
            guard let base = view.planes.0 else { throw PixelProblem(description: "a pixel buffer has no memory") }
            for y in 0..<size {
                for x in 0..<size {
                    let from = rgb.startIndex + (y * size + x) * 3
                    let to = base + y * Int(view.row_stride.0) + x * AppContract.bytesPerPixel
                    for channel in 0..<3 { to[AppContract.redByte - channel] = rgb[from + channel] }
                    to[3] = 255
                }
            }
        }
    }

    /// (3, S, S) in [0, 1] of a BGRA buffer.
    static func floats(ofPicture buffer: CVPixelBuffer, size: Int) throws -> [Float] {
        try buffer.withLock(readOnly: true) { () throws -> [Float] in
            let tensor = try buffer.pictureTensor(size: size)
            guard let red = tensor.data else { throw PixelProblem(description: "a pixel buffer has no memory") }
            var out = [Float]()
            out.reserveCapacity(3 * size * size)
            for channel in 0..<3 {
                for y in 0..<size {
                    for x in 0..<size {
                        let at = y * Int(tensor.row_stride) + x * Int(tensor.pixel_stride) - channel
                        out.append(Float(red.load(fromByteOffset: at, as: UInt8.self)) / 255)
                    }
                }
            }
            return out
        }
    }

    /// (S, S) of a mask's buffer.
    static func floats(ofMask buffer: CVPixelBuffer, size: Int) throws -> [Float] {
        try buffer.withLock(readOnly: true) { () throws -> [Float] in
            let tensor = try buffer.maskTensor(size: size)
            guard let first = tensor.data else { throw PixelProblem(description: "a pixel buffer has no memory") }
            var out = [Float]()
            out.reserveCapacity(size * size)
            for y in 0..<size {
                for x in 0..<size {
                    let at = (y * Int(tensor.row_stride) + x) * 2
                    out.append(Float(Float16(bitPattern: first.load(fromByteOffset: at, as: UInt16.self))))
                }
            }
            return out
        }
    }
}
