@testable import MfsDemo
import XCTest

final class FrameStatisticsTests: XCTestCase {
    func testPercentilesLieBetweenNeighbours() {
        let values = [4.0, 1.0, 3.0, 2.0]
        XCTAssertEqual(Distribution.percentile(values, 0), 1)
        XCTAssertEqual(Distribution.percentile(values, 0.5), 2.5)
        XCTAssertEqual(Distribution.percentile(values, 0.9), 3.7, accuracy: 1e-12)
        XCTAssertEqual(Distribution.percentile(values, 1), 4)
    }

    func testNothingMeasuredIsNoFigure() {
        XCTAssertTrue(Distribution.percentile([], 0.5).isNaN)
        XCTAssertTrue(FrameStatistics().fps(over: 2).isNaN)
        XCTAssertTrue(jsonNumber(.nan) is NSNull)
    }

    func testFramesASecond() {
        var statistics = FrameStatistics()
        for i in 0...60 { statistics.add(StageTimes(), seconds: Double(i) / 30) }
        XCTAssertEqual(statistics.fps(over: 1), 30, accuracy: 1e-6)
        XCTAssertEqual(statistics.frames, 61)
    }

    func testTheLastTwoSecondsAreNotTheSustainedRate() {
        var statistics = FrameStatistics()
        for i in 0..<300 { statistics.add(StageTimes(), seconds: Double(i) / 30) }  // ten seconds at 30
        for i in 0..<20 { statistics.add(StageTimes(), seconds: 10 + Double(i) / 10) }  // two at 10
        XCTAssertEqual(statistics.fps(over: 1.9), 10, accuracy: 0.1)
        XCTAssertGreaterThan(statistics.fps(over: 60), 25)
    }

    func testOldFramesAreForgotten() {
        var statistics = FrameStatistics()
        statistics.add(StageTimes(total: 1000), seconds: 0)
        for i in 1...FrameStatistics.window { statistics.add(StageTimes(total: 5), seconds: Double(i) / 30) }
        XCTAssertEqual(statistics.percentile(\.total, 1), 5)
    }

    func testDroppedFramesAreCountedApart() {
        var statistics = FrameStatistics()
        statistics.drop()
        XCTAssertEqual(statistics.dropped, 1)
        XCTAssertEqual(statistics.frames, 0)
    }

    func testAReportNamesEveryStage() {
        let stages = BenchReport.stages([StageTimes(detect: 1, align: 2, network: 3, paste: 4, total: 10)])
        XCTAssertEqual(stages.keys.sorted(), ["align", "detect", "network", "paste", "total"])
        let network = stages["network"] as? [String: Any]
        XCTAssertEqual(network?["p90"] as? Double, 3)
    }
}
