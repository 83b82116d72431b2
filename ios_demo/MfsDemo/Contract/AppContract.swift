/// All that the app itself takes for granted of a bundle.  Names, sizes and shapes are not here: they come from the manifest.
/// tests/ios_demo reads this file and holds it against freshly exported artifacts.
enum AppContract {
    /// The latest that is read; each earlier one is too.
    static let manifestSchema = 2
    /// This app's entry among the manifest's artifacts, and how its tensors are laid out.
    static let backend = "coreml"
    static let layout = "NCHW"
    /// What the contract calls the channels of a picture and of a mask.
    static let pictureColour = "RGB"
    static let maskColour = "mask"
    /// What an artifact's dtype begins with: pixel buffers in and out, not arrays.
    static let pictureImage = "RGB image"
    static let maskImage = "GRAYSCALE_FLOAT16 image"
    /// How Core ML lays out the bytes of an RGB image's pixel buffer (kCVPixelFormatType_32BGRA), and its red byte's place.
    static let pixelOrder = "BGRA"
    static let redByte = 2
    static let bytesPerPixel = 4
    /// Values of the contract's tensors; a picture's bytes stand for the same range.
    static let low = 0.0
    static let high = 1.0
}
