@testable import MfsDemo
import XCTest

final class LandmarkSmootherTests: XCTestCase {
    private let points: [Double] = [60, 50, 110, 54, 84, 80, 62, 100, 104, 103]

    func testAFaceAtRestIsSteadierThanItWasMeasured() throws {
        let smoother = try LandmarkSmoother()
        XCTAssertEqual(try smoother.smooth(points, seconds: 0), points)
        var measured = points
        measured[0] += 2
        let smoothed = try smoother.smooth(measured, seconds: 1.0 / 30)
        XCTAssertGreaterThan(smoothed[0], points[0])
        XCTAssertLessThan(smoothed[0], measured[0])
        XCTAssertEqual(smoothed[1], points[1])
    }

    func testWhatWasForgottenDoesNotCount() throws {
        let smoother = try LandmarkSmoother()
        _ = try smoother.smooth(points, seconds: 0)
        smoother.reset()
        let elsewhere = points.map { $0 + 3 }
        XCTAssertEqual(try smoother.smooth(elsewhere, seconds: 1.0 / 30), elsewhere)
    }

    func testNotANumberIsNoLandmark() throws {
        let smoother = try LandmarkSmoother()
        var measured = points
        measured[3] = .nan
        XCTAssertThrowsError(try smoother.smooth(measured, seconds: 0)) { XCTAssertTrue($0 is LandmarkProblem) }
        XCTAssertThrowsError(try smoother.smooth([1, 2], seconds: 0))
    }
}
