import CoreVideo
import ImageIO
import Vision

/// Finds the largest face of an upright frame with Vision.  Use it from one thread at a time.
final class FaceLandmarks {
    private let handler = VNSequenceRequestHandler()

    /// Ten numbers as mobile_core wants them, in pixels of the frame's buffer; nil where there is no face.
    func find(in frame: CVPixelBuffer) throws -> [Double]? {
        let request = VNDetectFaceLandmarksRequest()
        try handler.perform([request], on: frame, orientation: .up)
        let faces = request.results ?? []
        let largest = faces.max(by: { $0.boundingBox.height < $1.boundingBox.height })
        guard let found = largest?.landmarks, let leftEye = found.leftEye, let rightEye = found.rightEye,
              let crest = found.noseCrest, let lips = found.outerLips else { return nil }
        let size = CGSize(width: CVPixelBufferGetWidth(frame), height: CVPixelBufferGetHeight(frame))
        func points(_ region: VNFaceLandmarkRegion2D) -> [CGPoint] {
            region.pointsInImage(imageSize: size).map { FivePoints.toFrame($0, height: size.height) }
        }
        return FivePoints.from(eyes: (points(leftEye), points(rightEye)), noseCrest: points(crest), lips: points(lips))
    }
}
