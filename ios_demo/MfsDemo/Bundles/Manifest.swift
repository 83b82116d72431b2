import Foundation

/// What the app needs of a bundle's manifest.json.  mobile_core reads it too, and checks every file against it.
struct Manifest: Decodable {
    struct Tensor: Decodable, Equatable {
        let name: String
        let shape: [Int]  // (1, C, S, S)
        let low: Double
        let high: Double
        let colour: String
    }

    struct Contract: Decodable {
        let arch: String
        let size: Int
        let input: Tensor
        let outputs: [Tensor]
    }

    struct Alignment: Decodable {
        let base: Double
        let points: [[Double]]
    }

    struct ArtifactTensor: Decodable {
        let name: String
        let dtype: String
        let shape: [Int]
    }

    struct Artifact: Decodable {
        let files: [String]
        let layout: String
        let recipe: String
        let inputs: [ArtifactTensor]
        let outputs: [ArtifactTensor]
    }

    /// The least agreement with PyTorch that is let through; errors in units of [0, 1].
    struct Gate: Decodable {
        let swappedPsnrDb: Double
        let swappedMax: Double
        let maskMean: Double

        enum CodingKeys: String, CodingKey {
            case swappedPsnrDb = "swapped_psnr_db"
            case swappedMax = "swapped_max"
            case maskMean = "mask_mean"
        }
    }

    struct Recipe: Decodable {
        let weights: String
        let activations: String
        let gate: Gate

        /// Integer ranges, which cannot hold noise.
        var isStatic: Bool { activations.hasPrefix("int") }
    }

    struct SyntheticMedia: Decodable {
        let label: String
        let disclosure: String
    }

    let schema: Int
    let architecture: String
    let contract: Contract
    let alignment: Alignment
    let artifacts: [String: Artifact]
    let recipes: [String: Recipe]
    let syntheticMedia: SyntheticMedia

    enum CodingKeys: String, CodingKey {
        case schema, architecture, contract, alignment, artifacts, recipes
        case syntheticMedia = "synthetic_media"
    }

    static let fileName = "manifest.json"
    static let mostBytes = 10_000_000
}

/// A bundle that this app cannot use, and what to do about it.
struct BundleProblem: LocalizedError, Equatable {
    let message: String

    var errorDescription: String? { message }
}

/// The parts of a manifest that belong to the Core ML network, checked.
struct CoreMLContract {
    let size: Int
    let inputName: String
    let swappedName: String
    let maskName: String?
    let package: String
    let recipeName: String
    let recipe: Manifest.Recipe
    let label: String
}

extension Manifest {
    /// Reads a manifest.  Throws BundleProblem where it is too large, no manifest, or of another version.
    static func read(_ data: Data) throws -> Manifest {
        guard data.count <= mostBytes else { throw BundleProblem(message: "\(fileName) has \(data.count) bytes, too many") }
        let manifest: Manifest
        do {
            manifest = try JSONDecoder().decode(Manifest.self, from: data)
        } catch {
            throw BundleProblem(message: "\(fileName) is damaged: copy or export the bundle again (\(error))")
        }
        let known = AppContract.manifestSchema
        guard (1...known).contains(manifest.schema) else {
            throw BundleProblem(message: "the manifest has schema \(manifest.schema), this app reads 1 to \(known): update the app")
        }
        return manifest
    }

    static func read(folder: URL) throws -> Manifest {
        let file = folder.appendingPathComponent(fileName)
        guard let data = try? Data(contentsOf: file) else {
            throw BundleProblem(message: "\(folder.lastPathComponent) has no \(fileName): it is no bundle")
        }
        return try read(data)
    }

    /// The Core ML network, as the manifest describes it.  Throws BundleProblem where the app would not know how to run it.
    func coreML() throws -> CoreMLContract {
        guard let artifact = artifacts[AppContract.backend], let package = artifact.files.first, artifact.files.count == 1 else {
            let known = artifacts.keys.sorted().joined(separator: ", ")
            throw BundleProblem(message: "the bundle has no \(AppContract.backend) network, only \(known): export it")
        }
        guard artifact.layout == AppContract.layout else {
            throw BundleProblem(message: "layout \(artifact.layout), this app knows \(AppContract.layout)")
        }
        guard let recipe = recipes[artifact.recipe] else {
            throw BundleProblem(message: "recipe \(artifact.recipe) is not explained in the manifest")
        }
        let pictures = [contract.input] + contract.outputs.prefix(1)
        let masks = contract.outputs.dropFirst()
        guard pictures.count == 2, masks.count <= 1 else {
            throw BundleProblem(message: "\(contract.outputs.count) outputs, this app knows a picture and at most one mask")
        }
        for tensor in pictures {
            try check(tensor, colour: AppContract.pictureColour, channels: 3, image: AppContract.pictureImage, in: artifact)
        }
        for tensor in masks {
            try check(tensor, colour: AppContract.maskColour, channels: 1, image: AppContract.maskImage, in: artifact)
        }
        return CoreMLContract(
            size: contract.size,
            inputName: contract.input.name,
            swappedName: contract.outputs[0].name,
            maskName: masks.first?.name,
            package: package,
            recipeName: artifact.recipe,
            recipe: recipe,
            label: syntheticMedia.label
        )
    }

    private func check(_ tensor: Tensor, colour: String, channels: Int, image: String, in artifact: Artifact) throws {
        let shape = [1, channels, contract.size, contract.size]
        let isUnit = tensor.low == AppContract.low && tensor.high == AppContract.high
        guard tensor.colour == colour, tensor.shape == shape, isUnit else {
            throw BundleProblem(message: "\(tensor.name) is \(tensor.colour) \(tensor.shape), must be \(colour) \(shape) in [0, 1]")
        }
        guard let found = (artifact.inputs + artifact.outputs).first(where: { $0.name == tensor.name }) else {
            throw BundleProblem(message: "the \(AppContract.backend) network has no \(tensor.name)")
        }
        let wanted = "\(image) \(contract.size)x\(contract.size)"
        guard found.dtype == wanted else {
            throw BundleProblem(message: "\(tensor.name) is a \(found.dtype), must be a \(wanted): export with --coreml-io image")
        }
    }
}
