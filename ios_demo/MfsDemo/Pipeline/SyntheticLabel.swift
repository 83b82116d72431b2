import CoreGraphics
import CoreVideo
import UIKit

/// The words that every swapped frame carries, drawn once and then copied into each frame's own pixels: a recording has them too.
final class SyntheticLabel {
    static let height: CGFloat = 44  // pixels of the frame
    private let picture: CGImage

    /// Throws where `text`, the manifest's label, cannot be drawn.
    init(text: String) throws {
        let attributes: [NSAttributedString.Key: Any] = [
            .font: UIFont.boldSystemFont(ofSize: 26),
            .foregroundColor: UIColor.white,
        ]
        let words = NSAttributedString(string: text, attributes: attributes)
        let size = CGSize(width: ceil(words.size().width) + 24, height: SyntheticLabel.height)
        let format = UIGraphicsImageRendererFormat()
        format.scale = 1
        format.opaque = true
        let image = UIGraphicsImageRenderer(size: size, format: format).image { context in
            UIColor.black.setFill()
            context.fill(CGRect(origin: .zero, size: size))
            words.draw(at: CGPoint(x: 12, y: (size.height - words.size().height) / 2))
        }
        guard !text.isEmpty, let picture = image.cgImage else { throw BundleProblem(message: "the label \(text) cannot be drawn") }
        self.picture = picture
    }

    /// Into the upper left corner of a locked BGRA frame, and narrower where the frame is.
    func draw(into frame: CVPixelBuffer) throws {
        let width = CVPixelBufferGetWidth(frame)
        let height = CVPixelBufferGetHeight(frame)
        let layout = CGBitmapInfo.byteOrder32Little.rawValue | CGImageAlphaInfo.premultipliedFirst.rawValue
        let made = CGContext(
            data: CVPixelBufferGetBaseAddress(frame),
            width: width,
            height: height,
            bitsPerComponent: 8,
            bytesPerRow: CVPixelBufferGetBytesPerRow(frame),
            space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: layout
        )
        guard let context = made else { throw PixelProblem(description: "a frame of \(width)x\(height) cannot be drawn on") }
        let margin: CGFloat = 16
        let scale = min(1, (CGFloat(width) - 2 * margin) / CGFloat(picture.width))
        let size = CGSize(width: CGFloat(picture.width) * scale, height: CGFloat(picture.height) * scale)
        // A bitmap context's origin is the lower left corner.
        let origin = CGPoint(x: margin, y: CGFloat(height) - margin - size.height)
        context.draw(picture, in: CGRect(origin: origin, size: size))
    }
}
