import CoreGraphics
@testable import MfsDemo
import XCTest

final class FivePointsTests: XCTestCase {
    // An upright face in pixels of the frame, y downwards.
    private let left = [CGPoint(x: 90, y: 100), CGPoint(x: 110, y: 100)]
    private let right = [CGPoint(x: 190, y: 100), CGPoint(x: 210, y: 100)]
    private let crest = [CGPoint(x: 150, y: 100), CGPoint(x: 152, y: 150), CGPoint(x: 151, y: 130)]
    private let lips = [CGPoint(x: 150, y: 190), CGPoint(x: 115, y: 200), CGPoint(x: 185, y: 202), CGPoint(x: 150, y: 215)]
    private let expected: [Double] = [100, 100, 200, 100, 152, 150, 115, 200, 185, 202]

    func testFivePointsOfAnUprightFace() {
        XCTAssertEqual(FivePoints.from(eyes: (left, right), noseCrest: crest, lips: lips), expected)
    }

    func testWhoseLeftEyeItIsDoesNotMatter() {
        XCTAssertEqual(FivePoints.from(eyes: (right, left), noseCrest: crest.reversed(), lips: lips.reversed()), expected)
    }

    func testATiltedHeadKeepsItsCorners() throws {
        let turn = CGAffineTransform(rotationAngle: .pi / 4)
        func turned(_ points: [CGPoint]) -> [CGPoint] { points.map { $0.applying(turn) } }
        let points = FivePoints.from(eyes: (turned(left), turned(right)), noseCrest: turned(crest), lips: turned(lips))
        let found = try XCTUnwrap(points)
        for i in 0..<5 {
            let point = CGPoint(x: expected[2 * i], y: expected[2 * i + 1]).applying(turn)
            XCTAssertEqual(found[2 * i], Double(point.x), accuracy: 1e-9)
            XCTAssertEqual(found[2 * i + 1], Double(point.y), accuracy: 1e-9)
        }
    }

    func testNoOutlineNoFace() {
        XCTAssertNil(FivePoints.from(eyes: (left, []), noseCrest: crest, lips: lips))
        XCTAssertNil(FivePoints.from(eyes: (left, right), noseCrest: [], lips: lips))
        XCTAssertNil(FivePoints.from(eyes: (left, left), noseCrest: crest, lips: lips))
    }

    func testVisionCountsFromBelowAndFromEdges() {
        // The centre of the upper left pixel of a frame 720 high.
        XCTAssertEqual(FivePoints.toFrame(CGPoint(x: 0.5, y: 719.5), height: 720), CGPoint(x: 0, y: 0))
        XCTAssertEqual(FivePoints.toFrame(CGPoint(x: 10.5, y: 0.5), height: 720), CGPoint(x: 10, y: 719))
    }
}
