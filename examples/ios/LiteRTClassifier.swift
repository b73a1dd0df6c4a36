// CGImage -> (label, probability), best first, by LiteRT

import CoreGraphics
import Foundation
import TensorFlowLite

final class LiteRTClassifier {
    private let model: ModelFile
    private let interpreter: Interpreter

    init(model: ModelFile) throws {
        self.model = model
        interpreter = try Interpreter(modelPath: model.path)
        try interpreter.allocateTensors()
    }

    func classify(_ image: CGImage) throws -> [(label: String, probability: Float)] {
        guard let pixels = model.pixels(of: image) else { return [] }
        try interpreter.copy(pixels, toInputAt: 0)  // the one input, `images`
        try interpreter.invoke()
        let output = try interpreter.output(at: 0).data  // the one output, `probabilities`
        let probabilities = output.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        return zip(model.labels, probabilities).map { (label: $0, probability: $1) }
            .sorted { $0.probability > $1.probability }
    }
}
