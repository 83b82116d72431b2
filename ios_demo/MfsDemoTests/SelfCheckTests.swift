@testable import MfsDemo
import XCTest

/// Every bundle in this app's Documents that has its reference tensors, on this phone, against its own recipe's tolerance.
final class SelfCheckTests: XCTestCase {
    func testEveryBundleAgreesWithPyTorch() async throws {
        let bundles = BundleLibrary.list().filter { $0.reference != nil }
        try XCTSkipIf(bundles.isEmpty, "no bundle with a reference folder in Documents; see README.md")
        for bundle in bundles {
            for units in [ComputeUnits.cpu, .all] {
                let swapper = try await Swapper(bundle: bundle, computeUnits: units)
                let folder = try XCTUnwrap(bundle.reference)
                let check = try SelfCheck(swapper, folder: folder)
                XCTAssertFalse(check.cases.isEmpty)
                XCTAssertEqual(check.complaints, [], "\(bundle.name) on \(units.rawValue)")
            }
        }
    }

    func testNotANumberIsNoAgreement() {
        let zeros: [Float] = [0, 0]
        let figures = Agreement.compare([.nan, 0], zeros[...])
        XCTAssertTrue(figures.psnrDb.isNaN)
        XCTAssertTrue(figures.largest.isNaN)
        XCTAssertEqual(Agreement.compare(zeros, zeros[...]).psnrDb, Agreement.identicalDb)
    }
}
