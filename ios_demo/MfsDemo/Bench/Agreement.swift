import Foundation

/// How far two arrays are apart, and what may be: the same figures and limits as mobile_core's self_check.cpp.
enum Agreement {
    static let identicalDb = 200.0  // what equal arrays count as, as in the exporter's figures
    static let mostLevels = 1  // of alignment and paste-back

    static func psnrDb(squares: Double, count: Int, peak: Double) -> Double {
        let mean = squares / Double(count)
        if mean == 0 { return identicalDb }
        let db = 10 * log10(peak * peak / mean)
        return db > identicalDb ? identicalDb : db  // NaN stays NaN
    }

    /// PSNR of values in [0, 1], and the largest error of any.  NaN where a value is.
    static func compare(_ got: [Float], _ want: ArraySlice<Float>) -> (psnrDb: Double, largest: Double) {
        var squares = 0.0
        var largest = 0.0
        for (a, b) in zip(got, want) {
            let off = abs(Double(a) - Double(b))
            squares += off * off
            if off.isNaN { largest = .nan }
            if off > largest { largest = off }  // never true once it is NaN
        }
        return (psnrDb(squares: squares, count: got.count, peak: 1), largest)
    }

    static func meanError(_ got: [Float], _ want: ArraySlice<Float>) -> Double {
        var sum = 0.0
        for (a, b) in zip(got, want) { sum += abs(Double(a) - Double(b)) }
        return sum / Double(got.count)
    }

    static func mostLevels(_ got: [UInt8], _ want: [UInt8]) -> Int {
        var most = 0
        for (a, b) in zip(got, want) { most = max(most, abs(Int(a) - Int(b))) }
        return most
    }

    /// PSNR of 8-bit pictures.
    static func psnrDb(_ got: [UInt8], _ want: [UInt8]) -> Double {
        var squares = 0.0
        for (a, b) in zip(got, want) {
            let off = Double(Int(a) - Int(b))
            squares += off * off
        }
        return psnrDb(squares: squares, count: got.count, peak: 255)
    }

    /// What rounding the picture to bytes may cost on top of what the recipe may: half a level, 58.9 dB on even values.
    static func forPixels(_ gate: Manifest.Gate) -> Manifest.Gate {
        Manifest.Gate(
            swappedPsnrDb: -10 * log10(pow(10, -gate.swappedPsnrDb / 10) + pow(10, -5.89)),
            swappedMax: gate.swappedMax + 0.5 / 255,
            maskMean: gate.maskMean
        )
    }
}
