@testable import MfsDemo
import XCTest

final class ManifestTests: XCTestCase {
    // Names and a size that no exporter writes, so that a constant in the app cannot stand in for the manifest.
    private func manifest(
        schema: Int = 2, colour: String = "RGB", dtype: String = "RGB image 64x64", mask: String = "GRAYSCALE_FLOAT16 image 64x64",
        layout: String = "NCHW", backend: String = "coreml", recipe: String = "half"
    ) -> Data {
        let text = """
        {"schema": \(schema), "architecture": "a", "unknown_to_this_app": 1,
         "contract": {"arch": "a", "size": 64,
           "input": {"name": "in", "shape": [1, 3, 64, 64], "low": 0.0, "high": 1.0, "colour": "\(colour)", "meaning": ""},
           "outputs": [
             {"name": "face", "shape": [1, 3, 64, 64], "low": 0.0, "high": 1.0, "colour": "RGB", "meaning": ""},
             {"name": "weight", "shape": [1, 1, 64, 64], "low": 0.0, "high": 1.0, "colour": "mask", "meaning": ""}]},
         "alignment": {"base": 112, "points": [[1, 2], [3, 2], [2, 3], [1, 4], [3, 4]], "solver": "any"},
         "recipes": {"half": {"weights": "float16", "activations": "float16", "description": "",
           "gate": {"swapped_psnr_db": 55.0, "swapped_max": 0.02, "mask_mean": 0.002}}},
         "artifacts": {"\(backend)": {"files": ["net.mlpackage"], "layout": "\(layout)", "recipe": "\(recipe)",
           "inputs": [{"name": "in", "dtype": "\(dtype)", "shape": [1, 3, 64, 64]}],
           "outputs": [{"name": "face", "dtype": "RGB image 64x64", "shape": [1, 3, 64, 64]},
                       {"name": "weight", "dtype": "\(mask)", "shape": [1, 1, 64, 64]}]}},
         "synthetic_media": {"label": "AI-generated", "disclosure": "d"}}
        """
        return Data(text.utf8)
    }

    private func refusal(_ data: Data) -> String {
        do {
            _ = try Manifest.read(data).coreML()
            return ""
        } catch {
            return error.localizedDescription
        }
    }

    func testNamesAndSizeComeFromTheManifest() throws {
        let contract = try Manifest.read(manifest()).coreML()
        XCTAssertEqual(contract.size, 64)
        XCTAssertEqual(contract.inputName, "in")
        XCTAssertEqual(contract.swappedName, "face")
        XCTAssertEqual(contract.maskName, "weight")
        XCTAssertEqual(contract.package, "net.mlpackage")
        XCTAssertEqual(contract.label, "AI-generated")
        XCTAssertEqual(contract.recipe.gate.swappedMax, 0.02)
        XCTAssertFalse(contract.recipe.isStatic)
    }

    func testBundlesExportedBeforeAreStillRead() throws {
        XCTAssertEqual(try Manifest.read(manifest(schema: 1)).coreML().size, 64)
    }

    func testWhatTheAppWouldNotRunRightIsRefused() {
        XCTAssertTrue(refusal(manifest(schema: 3)).contains("schema 3"))
        XCTAssertTrue(refusal(manifest(colour: "BGR")).contains("BGR"))
        XCTAssertTrue(refusal(manifest(dtype: "float32")).contains("--coreml-io image"))
        XCTAssertTrue(refusal(manifest(mask: "GRAYSCALE image 64x64")).contains("weight"))
        XCTAssertTrue(refusal(manifest(dtype: "RGB image 32x32")).contains("32x32"))
        XCTAssertTrue(refusal(manifest(layout: "NHWC")).contains("NHWC"))
        XCTAssertTrue(refusal(manifest(backend: "onnx")).contains("onnx"))
        XCTAssertTrue(refusal(manifest(recipe: "lost")).contains("lost"))
        XCTAssertTrue(refusal(Data("{}".utf8)).contains("damaged"))
    }

    func testTheGateAllowsForBytes() {
        let gate = Agreement.forPixels(Manifest.Gate(swappedPsnrDb: 200, swappedMax: 0, maskMean: 0.5))
        XCTAssertEqual(gate.swappedPsnrDb, 58.9, accuracy: 1e-6)
        XCTAssertEqual(gate.swappedMax, 0.5 / 255)
        XCTAssertEqual(gate.maskMean, 0.5)
    }
}
