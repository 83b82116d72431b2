import AVFoundation
import SwiftUI
import UIKit

/// Where frames are shown: the camera's own buffers, without a copy.
final class FrameScreen {
    let layer = AVSampleBufferDisplayLayer()

    init() {
        layer.videoGravity = .resizeAspect
    }

    /// From any one thread.
    func show(_ sample: CMSampleBuffer) {
        if layer.status == .failed { layer.flush() }
        // Without this the layer waits for a clock that nobody runs.
        if let list = CMSampleBufferGetSampleAttachmentsArray(sample, createIfNecessary: true), CFArrayGetCount(list) > 0 {
            let attachments = unsafeBitCast(CFArrayGetValueAtIndex(list, 0), to: CFMutableDictionary.self)
            CFDictionarySetValue(
                attachments,
                Unmanaged.passUnretained(kCMSampleAttachmentKey_DisplayImmediately).toOpaque(),
                Unmanaged.passUnretained(kCFBooleanTrue).toOpaque()
            )
        }
        layer.enqueue(sample)
    }
}

struct FrameScreenView: UIViewRepresentable {
    let screen: FrameScreen

    func makeUIView(context: Context) -> LayerView {
        LayerView(layer: screen.layer)
    }

    func updateUIView(_ view: LayerView, context: Context) {}

    /// A view that gives its whole area to one layer.
    final class LayerView: UIView {
        private let content: CALayer

        init(layer: CALayer) {
            content = layer
            super.init(frame: .zero)
            backgroundColor = .black
            self.layer.addSublayer(layer)
        }

        @available(*, unavailable)
        required init?(coder: NSCoder) {
            fatalError("made in code only")
        }

        override func layoutSubviews() {
            super.layoutSubviews()
            CATransaction.begin()
            CATransaction.setDisableActions(true)
            content.frame = bounds
            CATransaction.commit()
        }
    }
}
