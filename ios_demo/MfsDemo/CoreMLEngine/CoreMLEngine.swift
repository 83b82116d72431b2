import CoreML
import CoreVideo
import Foundation

/// Where Core ML may compute.  The raw values are for the screen and for reports.
enum ComputeUnits: String, CaseIterable, Identifiable {
    case all
    case neuralEngine = "CPU and Neural Engine"
    case gpu = "CPU and GPU"
    case cpu = "CPU only"

    var id: String { rawValue }

    var coreML: MLComputeUnits {
        switch self {
        case .all: return .all
        case .neuralEngine: return .cpuAndNeuralEngine
        case .gpu: return .cpuAndGPU
        case .cpu: return .cpuOnly
        }
    }
}

/// What the network gives for one crop.
struct NetworkOutput {
    let swapped: CVPixelBuffer  // BGRA, S x S
    let mask: CVPixelBuffer?  // 16-bit floats in [0, 1], S x S
}

/// The bundle's network: compiled on this device, pixel buffers in and out.  Use it from one thread at a time.
final class CoreMLEngine {
    let contract: CoreMLContract
    let computeUnits: ComputeUnits
    /// Where the aligned crop goes before `run`: BGRA, S x S.
    let crop: CVPixelBuffer
    private let model: MLModel
    private let compiled: URL

    init(contract: CoreMLContract, folder: URL, computeUnits: ComputeUnits) async throws {
        let package = folder.appendingPathComponent(contract.package, isDirectory: true)
        let compiled = try await MLModel.compileModel(at: package)
        let loaded: MLModel
        let buffer: CVPixelBuffer
        do {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = computeUnits.coreML
            loaded = try await MLModel.load(contentsOf: compiled, configuration: configuration)
            try CoreMLEngine.check(loaded.modelDescription, contract)
            buffer = try makePixelBuffer(width: contract.size, height: contract.size)
        } catch {
            try? FileManager.default.removeItem(at: compiled)
            throw error
        }
        model = loaded
        crop = buffer
        self.contract = contract
        self.computeUnits = computeUnits
        self.compiled = compiled
    }

    deinit {
        try? FileManager.default.removeItem(at: compiled)
    }

    /// One run of the network on `crop`.
    func run() throws -> NetworkOutput {
        let input = try MLDictionaryFeatureProvider(dictionary: [contract.inputName: MLFeatureValue(pixelBuffer: crop)])
        let output = try model.prediction(from: input)
        let swapped = try CoreMLEngine.image(contract.swappedName, of: output)
        guard let maskName = contract.maskName else { return NetworkOutput(swapped: swapped, mask: nil) }
        return NetworkOutput(swapped: swapped, mask: try CoreMLEngine.image(maskName, of: output))
    }

    private static func image(_ name: String, of output: MLFeatureProvider) throws -> CVPixelBuffer {
        guard let image = output.featureValue(for: name)?.imageBufferValue else {
            throw BundleProblem(message: "the network gave no image called \(name)")
        }
        return image
    }

    /// The compiled model itself, held against the manifest: names, kinds, sizes, pixel formats.
    private static func check(_ description: MLModelDescription, _ contract: CoreMLContract) throws {
        let inputs = description.inputDescriptionsByName
        let outputs = description.outputDescriptionsByName
        var wanted = [(contract.inputName, inputs[contract.inputName], kCVPixelFormatType_32BGRA)]
        wanted.append((contract.swappedName, outputs[contract.swappedName], kCVPixelFormatType_32BGRA))
        if let mask = contract.maskName {
            wanted.append((mask, outputs[mask], kCVPixelFormatType_OneComponent16Half))
        }
        guard inputs.count == 1, outputs.count == wanted.count - 1 else {
            throw BundleProblem(message: "\(inputs.count) inputs and \(outputs.count) outputs, unlike the manifest")
        }
        for (name, feature, format) in wanted {
            guard let image = feature?.imageConstraint else {
                throw BundleProblem(message: "the network has no image \(name): export with --coreml-io image")
            }
            let fits = image.pixelsWide == contract.size && image.pixelsHigh == contract.size && image.pixelFormatType == format
            guard fits else {
                throw BundleProblem(
                    message: "\(name) is \(image.pixelsWide)x\(image.pixelsHigh) of format \(image.pixelFormatType), "
                        + "must be \(contract.size)x\(contract.size) of \(format)"
                )
            }
        }
    }
}
